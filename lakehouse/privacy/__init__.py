"""What keeps people out of the tables: keys, pseudonyms, redaction, sealed text and encrypted files."""

from lakehouse.privacy.keys import Key, key, rotate_key
from lakehouse.privacy.protection import PROTECTIONS, install, install_subject_seal, protect_sql, pseudonym
from lakehouse.privacy.redaction import redact_sql
from lakehouse.privacy.sealing import seal, unseal
from lakehouse.privacy.subject_keys import SubjectKeys
from lakehouse.privacy.vault import decrypt_file, decrypted_copy, encrypt_file, open_decrypted

__all__ = [
    "PROTECTIONS",
    "Key",
    "SubjectKeys",
    "decrypt_file",
    "decrypted_copy",
    "encrypt_file",
    "install",
    "install_subject_seal",
    "key",
    "open_decrypted",
    "protect_sql",
    "pseudonym",
    "redact_sql",
    "rotate_key",
    "seal",
    "unseal",
]
