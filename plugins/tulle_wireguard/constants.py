"""Every number of the protocol, in one place. "Paper" is the WireGuard paper (Donenfeld, NDSS 2017, revised 2020)."""

from __future__ import annotations

# --- sizes, in bytes ------------------------------------------------------------------------------------------

KEY_BYTES = 32  # RFC 7748 section 6.1; also of pre-shared keys and of keys of ChaCha20 (RFC 8439 section 2.3)
TAG_BYTES = 16  # Poly1305, RFC 8439 section 2.5
MAC_BYTES = 16  # mac1 and mac2: paper section 5.4.4
COOKIE_NONCE_BYTES = 24  # XChaCha20-Poly1305: paper section 5.4.7, draft-irtf-cfrg-xchacha section 2.3
TIMESTAMP_BYTES = 12  # TAI64N: paper section 5.1
PADDING_BYTES = 16  # inner packets are padded to a multiple of it: paper section 5.4.6
IPV4_OVERHEAD_BYTES = 20 + 8 + 32  # IPv4, UDP, type 4 header and tag
IPV6_OVERHEAD_BYTES = 40 + 8 + 32

# --- text that is hashed: paper section 5.4 -------------------------------------------------------------------

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1 = b"mac1----"
LABEL_COOKIE = b"cookie--"

# --- the life of a session: paper section 6.1 -----------------------------------------------------------------

REKEY_AFTER_MESSAGES = 2**60
REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1
REKEY_AFTER_TIME_S = 120.0
REJECT_AFTER_TIME_S = 180.0
REKEY_ATTEMPT_TIME_S = 90.0
REKEY_TIMEOUT_S = 5.0
KEEPALIVE_TIMEOUT_S = 10.0

REKEY_JITTER_S = 0.334  # a third of a second, at most, more on each retry: paper section 6.1
REKEY_ON_RECEIVE_S = REJECT_AFTER_TIME_S - KEEPALIVE_TIMEOUT_S - REKEY_TIMEOUT_S  # 165: paper section 6.2
NEW_HANDSHAKE_AFTER_S = KEEPALIVE_TIMEOUT_S + REKEY_TIMEOUT_S  # of silence: paper section 6.5
WIPE_AFTER_S = REJECT_AFTER_TIME_S * 3  # without a new session: paper section 6.3

# --- replay: paper section 5.4.6, RFC 6479 --------------------------------------------------------------------

REPLAY_WORD_BITS = 64  # RFC 6479 section 3 leaves the size free
REPLAY_RING_BITS = 8192
REPLAY_WINDOW = REPLAY_RING_BITS - REPLAY_WORD_BITS  # one word is always being filled: RFC 6479 section 3

# --- under load: paper sections 5.3 and 5.4.7; the queue and the buckets as the WireGuard of Linux has them ------

COOKIE_SECRET_AGE_S = 120.0
COOKIE_LATENCY_S = 5.0  # a cookie that is about to end is not used any more: it would arrive too late
HANDSHAKE_QUEUE = 4096
UNDER_LOAD_AT = HANDSHAKE_QUEUE // 8
UNDER_LOAD_STAYS_S = 1.0
SOURCE_PER_S, SOURCE_BURST = 20, 5
SOURCE_IPV6_BYTES = 8  # a /64 is one customer: RFC 6177 section 2
SOURCES_KNOWN = 65536  # ours: what the table of buckets may hold; about 10 MB
PEER_INITIATION_INTERVAL_S = 1 / 50

HANDSHAKES_PER_S, HANDSHAKES_AT_ONCE = 1000, 4
"""Ours: one costs about 0.3 ms of a processor, and the packets that wait meanwhile shall not wait much over 1 ms."""
CHEAP_PER_S, CHEAP_AT_ONCE = 20_000, 12
"""Ours: a message that is dropped or answered by a cookie costs about 20 us, and to send the cookie some 50 more."""

# --- the rest --------------------------------------------------------------------------------------------------

STAGED_PACKETS = 128  # that wait for a session, for each peer; the oldest is dropped (as Linux)
HANDSHAKE_DS = 0x88  # DSCP AF41 (RFC 2597 section 6), ECN 0: what Linux's WireGuard sets on messages 1 and 2
TIMESTAMP_STEP_NS = 2**24  # 16.8 ms: the world is told no finer clock (paper section 5.1 asks for none)
