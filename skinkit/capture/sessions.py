"""Who may use the page: a pairing code, and sessions that end.

A device shows once that its user sees the code in the terminal, and gets a session. Codes and tokens are compared in
constant time; of tokens only the hash is kept, in memory alone, so that a restart ends every session. A client that
guesses wrongly a few times must wait, and many wrong codes, of whatever client, replace the code.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Letters and digits that cannot be mistaken for each other."""
CODE_LENGTH = 8
"""40 bits: with five guesses in five minutes, one in a thousand million years."""
LONGEST_S = 12 * 3600.0
IDLE_S = 2 * 3600.0
MOST_SESSIONS = 64
MOST_WRONG, WRONG_WITHIN_S = 5, 300.0
"""Wrong codes of a client, and in which time, before it must wait."""
MOST_WRONG_OF_ALL = 20
"""Wrong codes of all clients before the code is replaced."""


class WrongCodeError(Exception):
    """The code is not the one in the terminal."""


class WaitError(Exception):
    """Too many requests or wrong codes.

    Args:
        seconds: how long to wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass
class _Session:
    begun: float
    seen: float
    name: str


@dataclass
class Sessions:
    """Sessions of devices, and the code with which one begins.

    Attributes:
        needs_code: whether a code is asked for; without, every device of this machine may begin a session.
        replaced: called with the new code when one was guessed at too often.
        clock: seconds, monotonic.
    """

    needs_code: bool
    replaced: Callable[[str], None] = lambda code: None
    clock: Callable[[], float] = time.monotonic
    code: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[bytes, _Session] = {}
        self._wrong: dict[str, deque[float]] = {}
        self._wrong_of_all = 0
        self.code = _new_code()

    def pair(self, code: str, client: str) -> str:
        """Begin a session; its token.

        Args:
            code: as typed; case, blanks and hyphens do not matter.
            client: address of the device.

        Raises:
            WrongCodeError: it is another one.
            WaitError: this client guessed too often.
        """
        with self._lock:
            now = self.clock()
            times = self._wrong.setdefault(client, deque())
            while times and times[0] <= now - WRONG_WITHIN_S:
                times.popleft()
            if len(times) >= MOST_WRONG:
                raise WaitError(times[0] + WRONG_WITHIN_S - now)
            typed = "".join(code.split()).replace("-", "").upper()
            if not hmac.compare_digest(typed.encode("utf-8", "replace"), self.code.encode()):
                times.append(now)
                self._note_wrong()
                raise WrongCodeError
            self._wrong.pop(client, None)
            return self._begun(now)

    def begin(self) -> str:
        """Begin a session without a code; only where none is needed."""
        assert not self.needs_code
        with self._lock:
            return self._begun(self.clock())

    def name_of(self, token: str) -> str | None:
        """The random name of the session of a token; None where there is none, or none any more."""
        with self._lock:
            now, key = self.clock(), _hashed(token)
            session = self._known.get(key)
            if session is None:
                return None
            if now - session.begun > LONGEST_S or now - session.seen > IDLE_S:
                del self._known[key]
                return None
            session.seen = now
            return session.name

    def end(self, token: str) -> None:
        """End the session of a token."""
        with self._lock:
            self._known.pop(_hashed(token), None)

    def _begun(self, now: float) -> str:
        while len(self._known) >= MOST_SESSIONS:
            del self._known[min(self._known, key=lambda key: self._known[key].seen)]
        token = secrets.token_urlsafe(32)
        self._known[_hashed(token)] = _Session(now, now, f"session-{secrets.token_hex(6)}")
        return token

    def _note_wrong(self) -> None:
        self._wrong_of_all += 1
        if self._wrong_of_all >= MOST_WRONG_OF_ALL:
            self.code, self._wrong_of_all = _new_code(), 0
            self.replaced(self.code)
        while len(self._wrong) > 1000:  # addresses that are not real ones
            self._wrong.pop(next(iter(self._wrong)))


def shown(code: str) -> str:
    """A code as people read it: in two halves."""
    return f"{code[: CODE_LENGTH // 2]}-{code[CODE_LENGTH // 2 :]}"


@dataclass
class RateLimit:
    """A bucket of requests for each client, which fills again with time.

    Attributes:
        per_second: requests that may be made for long.
        burst: requests that may be made at once.
    """

    per_second: float
    burst: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> None:
        """Count one request.

        Raises:
            WaitError: the bucket of this client is empty.
        """
        with self._lock:
            now = self.clock()
            left, at = self._left.pop(client, (self.burst, now))
            left = min(self.burst, left + (now - at) * self.per_second)
            self._left[client] = (max(left - 1, 0) if left >= 1 else left, now)
            while len(self._left) > 4096:
                self._left.pop(next(iter(self._left)))
            if left < 1:
                raise WaitError((1 - left) / self.per_second)


def _new_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
