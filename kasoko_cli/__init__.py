"""kasoko: settle pari-mutuel prediction markets and pay the winners by M-Pesa, once."""

__version__ = "0.1.0"
