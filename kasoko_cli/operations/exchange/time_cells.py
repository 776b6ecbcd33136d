"""The cells of a file that hold times; the order of its dates is looked for in all of them once it is needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from kasoko_cli.domain.phone import quoted
from kasoko_cli.domain.time_text import DateSurvey, TimeStyle, has_no_offset, has_open_order, parse_time
from kasoko_cli.errors import Refused
from kasoko_cli.operations.shared.record_files import Format
from kasoko_cli.operations.shared.record_rows import RowReader


class TimeCells:
    """Reads the time cells of one file, and counts those that stand without an offset."""

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader
        self._style = TimeStyle(reader.file.read_as.zone, reader.file.read_as.order)
        self._survey: DateSurvey | None = None
        self.without_offset = 0

    def parse(self, text: str) -> datetime:
        """The time in UTC. Raises Refused if it is none, or could be read in two ways."""
        if text[-1:] != "Z":
            self._look(text)
        return parse_time(text, self._style)

    def _look(self, text: str) -> None:
        if has_no_offset(text):
            self.without_offset += 1
            self._reader.understood.timezone = self._reader.file.read_as.zone_name
        if has_open_order(text):
            if self._survey is None:
                self._survey = self._reader.date_survey()
                self._style = replace(self._style, order=self._style.order or self._survey.order)
                self._reader.understood.dates = self._style.order
            if self._survey.is_mixed and self._reader.file.format is Format.XLSX:
                raise Refused(
                    f"{quoted(text)} is text, and other times of the file are dates.",
                    hint="The spreadsheet may have taken days for months where it could: import the file that it was"
                    " made from, or format the column as text before the times are put in.",
                )
