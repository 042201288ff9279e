"""A second implementation of docs/protocol.md, to check the vectors with.

Python integers, the standard library, and of `cryptography` only AES, Ed25519, X25519 and ML-KEM-768. It
imports nothing of the package under test and nothing of its tests. It is slow, and it is careless with
secrets: those of the vectors are public.

Read in this order: `primitives`, `sealing`, `ring`, `sharing`; `identity`, `manifest`, `messages`; `member`,
`coordinator`; `operations` runs what the JSON files list.
"""
