"""How answers look: tables, JSON, progress, mail, documents."""
