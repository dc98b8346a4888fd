"""Options of sockets over IPv4 and IPv6."""

from cython.cimports.libc.errno import EINVAL
from cython.cimports.metalio._sys.sockets import AF_INET6, IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_HOPS

from metalio._sys.errors import os_error


def get_ip_option(sock, v4_name, v6_name):
    if sock.family() == AF_INET6:
        return sock.get_option(IPPROTO_IPV6, v6_name)
    return sock.get_option(IPPROTO_IP, v4_name)


def set_ip_option(sock, v4_name, v6_name, value):
    if sock.family() == AF_INET6:
        return sock.set_option(IPPROTO_IPV6, v6_name, value)
    return sock.set_option(IPPROTO_IP, v4_name, value)


def get_ttl(sock):
    return get_ip_option(sock, IP_TTL, IPV6_UNICAST_HOPS)


def set_ttl(sock, value):
    # IPv6 would take 0, which reaches nobody, and -1, which means the system's own.
    if not 1 <= value <= 255:
        raise os_error(EINVAL, "a time to live is a number from 1 to 255")
    return set_ip_option(sock, IP_TTL, IPV6_UNICAST_HOPS, value)
