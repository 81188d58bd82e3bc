"""What keeps people out of the tables: keys, pseudonyms, redaction, sealed text and encrypted files."""

from lakehouse.privacy.keys import Key, key
from lakehouse.privacy.protection import PROTECTIONS, install, protect_sql, pseudonym
from lakehouse.privacy.redaction import redact_sql
from lakehouse.privacy.sealing import seal, unseal
from lakehouse.privacy.vault import decrypt_file, decrypted_copy, encrypt_file, open_decrypted

__all__ = [
    "PROTECTIONS",
    "Key",
    "decrypt_file",
    "decrypted_copy",
    "encrypt_file",
    "install",
    "key",
    "open_decrypted",
    "protect_sql",
    "pseudonym",
    "redact_sql",
    "seal",
    "unseal",
]
