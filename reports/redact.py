"""Redaction: tokens, keys, passwords, headers that carry them, and home folders never leave the machine in an artefact."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

MARK = "***"
SHORTEST_VALUE = 6  # of the environment: a shorter one would be found in ordinary words
NAME_LOOKED_AT = 120

_ALWAYS = frozenset({"pwd", "secrets", "credential", "credentials", "cookie", "authorization"})
_ENDINGS = ("password", "passwd", "passphrase", "secret", "apikey")  # also of one word: PGPASSWORD
_KEYS = frozenset({"api", "access", "private", "signing", "encryption", "account", "secret", "ssh", "license"})
# Words before `token` that make it a credential; any other `…_token` (eos_token, next_token) is the models' own word.
_TOKENS = frozenset({"access", "account", "api", "auth", "bearer", "bot", "csrf", "deploy", "gh", "github", "gitlab", "hf",
                     "hub", "id", "npm", "oauth", "personal", "pypi", "refresh", "registry", "secret", "security", "service",
                     "session", "user", "wandb", "xsrf"})
_NOT_A_VALUE = re.compile(r"(?i)(?:none|null|true|false|\*+|)[\]}),;>]*\Z")
_LOOKS_SECRET = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9]).{8,}|.{24,}", re.DOTALL)
_PARTS = re.compile(r"[^a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
    r"(?:(?:(?!-----).){0,20000}-----END [A-Z0-9 ]{0,40}-----"  # whole, else (cut off) its lines as far as they go
    r"|(?:(?:\s|\\[nr]){1,4}[A-Za-z0-9+/]{12,}={0,2}(?![\w.-]))*+(?:(?:\s|\\[nr]){1,4}[A-Za-z0-9+/]+={1,2})?)"
    r"|(?:(?<![A-Za-z0-9+/=]\n)(?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/=]{16,80}\r?\n)++[A-Za-z0-9+/=]{0,80}\s?"
    r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)", re.DOTALL)
_DIGEST = re.compile(r"(?i)(authorization\\?[\"']?\s{0,3}[:=,]\s{0,3}b?\\?[\"']?\s{0,3})digest[^\r\n]*")
_HEADER = re.compile(
    r"(?i)(?<![\w])((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api-key|x-auth-token|x-goog-api-key)"
    r"(\\?[\"']?\s{0,3}[:=,]\s{0,3}b?\\?[\"']?)([^\r\n\"'\\]+)")
_BEARER = re.compile(r"(?i)(?<![a-z0-9])(bearer|basic)(\s{1,3}|%20)(?!auth|token)([A-Za-z0-9._~+/=-]{8,})")
_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{8,}|sk-[\w-]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}"
    r"|xox[abeprs]-[\w-]{8,}|(?:AKIA|ASIA)[0-9A-Z]{12,}|AIza[\w-]{20,}|nvapi-[\w-]{12,}|npm_[A-Za-z0-9]{20,}"
    r"|pypi-[\w-]{20,}|dckr_pat_[\w-]{12,}|eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?)")
_USERINFO = re.compile(r"(?i)([a-z][a-z0-9+.-]{0,20}://)[^\s/\"'<>]{1,512}@")
_NAMED = re.compile(r"(?<![\w.-])([\w.-]++)(\\{0,3}[\"']?\s{0,3}[:=]>?\s{0,3}[\[(]?b?(?:\\{0,3}[\"'])?)")
_VALUE = re.compile(r"(?<=\")[^\"\r\n]*+|(?<=')[^'\r\n]*+|[^\s\"'&\\]*+")
_OPTION = re.compile(r"(?<![\w.-])(--?[A-Za-z][\w-]*+)([\"']?,?\s{1,3}b?[\"']?)([^\s\"'-][^\s\"']*+)")
_HOME = re.compile(r"(?i)(?:/|\\/|%2f)(?:home|users)(?:/|\\/|%2f)[^/\s\"'\\:;,)\]}<>%&|]+"
                   r"|[a-z]:\\{1,2}users\\{1,2}[^\\\s\"':;,<>|]+")
_ROOT = re.compile(r"(?<![\w.~-])/root(?![\w-])")


class Redactor:
    """Redacts text; knows, beside what secrets look like, the secret values of one environment and its home folder."""

    def __init__(self, environ: Mapping[str, str] | None = None, home: str | None = None) -> None:
        found = os.environ if environ is None else environ
        values = {value for name, value in found.items() if is_secret_name(name) and not _is_place(name, value)}
        self._literals = _alternatives({value for value in values if len(value) >= SHORTEST_VALUE})
        own = str(Path.home()) if home is None else home
        self._home = _alternatives({own} if own.count("/") > 1 else set())

    def text(self, text: str) -> str:
        """The text with every secret as `***` and every home folder as `~`; in linear time, the same when done twice."""
        if self._literals:
            text = self._literals.sub(MARK, text)
        text = hide_keys(text)
        text = _DIGEST.sub(rf"\1{MARK}", text)
        text = _HEADER.sub(_header, text)
        text = _USERINFO.sub(rf"\1{MARK}@", text)
        text = _OPTION.sub(_option, text)
        text = _pairs(text)
        text = _BEARER.sub(rf"\1\2{MARK}", text)
        text = _PREFIXED.sub(MARK, text)
        if self._home:
            text = self._home.sub("~", text)
        return _ROOT.sub("~", _HOME.sub("~", text))

    def tree(self, value: Any) -> Any:
        """The same for what JSON holds: every string, and whatever stands under a secret name."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): MARK if _hides(str(name), inner) else self.tree(inner)
                    for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(inner) for inner in value]
        return value


@lru_cache(maxsize=1)
def here() -> Redactor:
    """The one that knows the environment of this process."""
    return Redactor()


def redact(text: str) -> str:
    """`Redactor.text` with the environment of this process."""
    return here().text(text)


def hide_keys(text: str) -> str:
    """Private keys alone, which run over many lines: what is to be redacted line by line is given to this first."""
    return _PRIVATE_KEY.sub(MARK, text)


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a credential: `HF_TOKEN`, `api_key`, `--password`; not `max_tokens`."""
    words = [word for word in _PARTS.split(_CAMEL.sub("_", name).lower()) if word]
    if _ALWAYS.intersection(words) or any(word.endswith(_ENDINGS) for word in words):
        return True
    pairs = {*zip(words, words[1:], strict=False)}
    if any(second in ("key", "keys") and first in _KEYS for first, second in pairs):
        return True
    return any(second == "token" and first in _TOKENS for first, second in pairs)


def _hides(name: str, value: Any) -> bool:
    return isinstance(value, str) and _secret(name, value)


def _is_place(name: str, value: str) -> bool:
    """Whether a variable names a folder or file, such as the working directory: no credential, and part of every path."""
    return name in ("PWD", "OLDPWD") or (value.startswith("/") and os.path.lexists(value))


def _is_token(name: str) -> bool:
    return name.lower().strip("-_") in ("token", "key")


def _pairs(text: str) -> str:
    """The values that stand after secret names; what stands after any other name is itself looked through."""
    shown: list[str] = []
    done = 0
    for match in _NAMED.finditer(text):
        # A value is looked at only under a name that may hide one: else text of names alone would take quadratic time.
        suspect = match.start() >= done and (_is_token(match[1]) or is_secret_name(match[1][-NAME_LOOKED_AT:]))
        value = _VALUE.match(text, match.end()) if suspect else None
        if value and _secret(match[1], value[0]):
            shown += (text[done : match.end()], MARK)
            done = value.end()
    return "".join((*shown, text[done:]))


def _option(match: re.Match[str]) -> str:
    name, separator, value = match.groups()
    return f"{name}{separator}{MARK}" if _secret(name, value) else match[0]


def _secret(name: str, value: str) -> bool:
    if _NOT_A_VALUE.match(value):
        return False
    return is_secret_name(name[-NAME_LOOKED_AT:]) or (_is_token(name) and bool(_LOOKS_SECRET.match(value)))


def _header(match: re.Match[str]) -> str:
    name, separator, value = match.groups()
    return match[0] if _NOT_A_VALUE.match(value.strip()) else f"{name}{separator}{MARK}"


def _alternatives(values: set[str]) -> re.Pattern[str] | None:
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
