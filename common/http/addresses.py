"""Decides which addresses may be connected to: resolves a host name and refuses addresses that are not public.

The check is made on the very addresses that are then connected to, so a name that answers differently the second
time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Allowed = tuple[Network, int | None]  # and the only port there, or None for all
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
RELAYS = ipaddress.IPv4Network("192.88.99.0/24")  # of 6to4, withdrawn (RFC 7526); `ipaddress` calls them global


class FetchFailure(Exception):
    """Why one image was not downloaded: `error` is a class of docs/run-directory.md, `detail` is for people."""

    def __init__(self, error: str, detail: str = ""):
        super().__init__(f"{error}: {detail}" if detail else error)
        self.error, self.detail = error, detail


class AddressBook:
    """Gives the socket addresses of a host and port that may be connected to.

    Args:
        resolve: as `curl --resolve`: {"host:port": "address:port"}. "*.test:80" is every host under .test; the
            more specific entry wins. Its targets are checked like any other address.
        allow_networks: CIDR blocks that may be reached though they are not public: "10.0.0.0/8", or on one port
            only "127.0.0.0/8:8000".
        lookup: used instead of `socket.getaddrinfo`.

    Raises:
        ValueError: an entry that cannot be read; the message shows it.
    """

    def __init__(
        self,
        resolve: dict[str, str] | None = None,
        allow_networks: list[str] | None = None,
        lookup: Callable[..., list[Any]] | None = None,
    ):
        self.allowed: list[Allowed] = [_allowed(text) for text in allow_networks or []]
        self.lookup = lookup
        self.exact: dict[tuple[str, int], tuple[str, int]] = {}
        self.suffixes: list[tuple[str, int, tuple[str, int]]] = []
        for key, value in (resolve or {}).items():
            host, port = split_endpoint(key)
            target, target_port = split_endpoint(value)
            try:
                ipaddress.ip_address(target)
            except ValueError:
                raise ValueError(f"resolve: {key!r}: {value!r} is not of the form address:port") from None
            if host.startswith("*"):
                self.suffixes.append((host[1:], port, (target, target_port)))
            else:
                self.exact[host, port] = target, target_port
        self.suffixes.sort(key=lambda entry: -len(entry[0]))

    def target(self, host: str, port: int) -> tuple[str, int]:
        """The host and port to connect to for `host:port`: those of the resolve map, or the pair itself."""
        host = host.lower().rstrip(".")
        if (host, port) in self.exact:
            return self.exact[host, port]
        for suffix, suffix_port, target in self.suffixes:
            if port == suffix_port and host.endswith(suffix):
                return target
        return host, port

    def endpoints(self, host: str, port: int) -> list[tuple[int, Any]]:
        """(address family, socket address) of `host:port`, in the order to try them. Opens no socket.

        Raises:
            FetchFailure: `dns`, `bad_url` (not a host name at all), or `refused_address`: one refused address
                refuses the host, since a name that points both outside and inside is an attack.
        """
        name, port = self.target(host, port)
        try:
            found = (self.lookup or socket.getaddrinfo)(name, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise FetchFailure("bad_url", f"{name[:100]}: {error}") from error
        except socket.gaierror as error:
            raise FetchFailure("dns", f"{name}: {error.strerror or error}") from error
        endpoints = list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))
        if not endpoints:
            raise FetchFailure("dns", f"{name}: no address")
        for _, sockaddr in endpoints:
            reason = refusal(sockaddr[0], port, self.allowed)
            if reason:
                raise FetchFailure("refused_address", f"{host} is at {sockaddr[0]}: {reason}")
        return endpoints

    def refused_targets(self) -> list[str]:
        """Entries of the resolve map that no request could follow, as "address: reason"."""
        targets = {*self.exact.values(), *(target for _, _, target in self.suffixes)}
        reasons = ((address, refusal(address, port, self.allowed)) for address, port in sorted(targets))
        return [f"{address}: {reason}" for address, reason in reasons if reason]


def split_endpoint(text: str) -> tuple[str, int]:
    """ "host:port" or "[v6]:port" -> (host in lower case, port)."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"resolve: {text!r} is not of the form host:port")
    return host.strip("[]").lower().rstrip("."), int(port)


def _allowed(text: str) -> Allowed:
    """ "CIDR" or "CIDR:port" -> (network, port or None)."""
    address, slash, rest = text.partition("/")
    length, colon, port = rest.partition(":")
    if colon and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"allow_networks: {text!r}: {port!r} is not a port")
    return ipaddress.ip_network(address + slash + length), int(port) if colon else None


def refusal(text: str, port: int, allowed: list[Allowed]) -> str | None:
    """Why an address is not connected to at that port, or None. An IPv4 address inside an IPv6 one counts as itself."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "not an address"
    forms = [address, *_embedded(address)]
    if any(form in network and only in (None, port) for form in forms for network, only in allowed):
        return None
    # what wraps an IPv4 address is as good or bad as that address; ::ffff:0:0/96 and 64:ff9b::/96 are themselves
    # listed as reserved, which would cut off networks that have nothing else
    for form in forms[1:] or forms:
        kind = _kind(form)
        if kind:
            return f"{kind} address; `fetch.allow_networks` can allow it"
    return None


def _embedded(address: Address) -> list[Address]:
    if address.version == 4:
        return []
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [inner for inner in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if inner is not None]


def _kind(address: Address) -> str | None:
    for kind in ("unspecified", "loopback", "link_local", "site_local", "multicast", "reserved", "private"):
        if getattr(address, f"is_{kind}", False):
            return kind.replace("_", "-")
    return None if address.is_global and address not in RELAYS else "non-public"
