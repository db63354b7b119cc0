//! ICMP and ICMPv6 messages that the engine makes.
