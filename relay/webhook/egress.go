package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Policy says where requests may go. The zero value is the strict one: https to
// public addresses on ports 443 and 8443.
type Policy struct {
	// Allow are networks that may be dialled although they are not public, on any
	// port: RELAY_EGRESS_ALLOW.
	Allow []netip.Prefix
	// HTTP lets plain http through, on ports 80 and 8080: RELAY_EGRESS_HTTP.
	HTTP bool
	// Ports are further ports of public addresses.
	Ports []uint16
}

// BlockedError is returned for a target that the policy refuses. Its text never
// holds the URL.
type BlockedError struct {
	Reason string
	Remedy string // may be empty
}

// Error returns reason and remedy.
func (e *BlockedError) Error() string {
	if e.Remedy == "" {
		return "blocked: " + e.Reason
	}
	return "blocked: " + e.Reason + "; " + e.Remedy
}

const remedyAllow = "to let it pass, add its network to RELAY_EGRESS_ALLOW"

func blocked(format string, args ...any) error {
	return &BlockedError{Reason: fmt.Sprintf(format, args...)}
}

// maxURL bounds what is parsed; longer URLs do not fit most servers.
const maxURL = 8 << 10

// CheckURL tells whether a target URL is one that the policy could let pass. A
// host name is judged here by its form only: what it resolves to is judged at
// every connect.
func CheckURL(raw string, policy Policy) error {
	_, err := policy.parse(raw)
	return err
}

// parse reads a target URL and brings its host into the one form that is dialled.
func (p *Policy) parse(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, blocked("target URL is longer than %d bytes", maxURL)
	}
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c == 0x7f || c == '\\' {
			return nil, blocked("target URL holds a blank, a backslash or a control character")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, blocked("target URL cannot be parsed")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, blocked("scheme of the target URL is neither https nor http")
	case u.Scheme == "http" && !p.HTTP:
		return nil, &BlockedError{Reason: "target URL is plain http", Remedy: "to let it pass, set RELAY_EGRESS_HTTP=true"}
	case u.User != nil:
		return nil, blocked("target URL holds a user name or password")
	case u.Opaque != "":
		return nil, blocked("target URL has no host")
	}
	host, err := cleanHost(u)
	if err != nil {
		return nil, err
	}
	port, err := cleanPort(u)
	if err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if err := p.checkAddr(netip.AddrPortFrom(addr, port)); err != nil {
			return nil, err
		}
	}
	u.Host = joinHostPort(host, u.Port())
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// cleanHost returns the host without its trailing dot, in lower case. It accepts
// IP addresses in their usual form and ASCII host names. Everything that only
// some resolvers take for an address is refused: "0x7f.1", "2130706433", "127.1".
func cleanHost(u *url.URL) (string, error) {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return "", blocked("host of the target URL is no IPv6 address")
		}
		if addr.Zone() != "" {
			return "", blocked("host of the target URL is an address with a zone")
		}
		return addr.String(), nil
	}
	host = strings.TrimSuffix(host, ".")
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		return host, nil
	}
	if !validHostname(host) {
		return "", blocked("host of the target URL is no valid host name; write international names in their xn-- form")
	}
	host = strings.ToLower(host) // ASCII by now: in all of Unicode the Kelvin sign becomes a k
	last := host[strings.LastIndexByte(host, '.')+1:]
	if looksNumeric(last) {
		return "", blocked("host of the target URL is a number; write addresses as four decimal numbers")
	}
	return host, nil
}

// validHostname accepts dot separated labels of letters, digits, hyphens and
// underscores.
func validHostname(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}

// looksNumeric reports whether a label is a number to inet_aton: decimal, octal
// or hexadecimal. No top-level domain is.
func looksNumeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func cleanPort(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return 0, blocked("port of the target URL is empty")
		}
		if u.Scheme == "http" {
			return 80, nil
		}
		return 443, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || text[0] == '0' {
		return 0, blocked("port of the target URL is not between 1 and 65535")
	}
	return uint16(port), nil
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" {
		return host
	}
	return host + ":" + port
}

// checkAddr decides about an address that is about to be connected to.
func (p *Policy) checkAddr(to netip.AddrPort) error {
	if to.Addr().Zone() != "" {
		return blocked("address has a zone")
	}
	addr := to.Addr().Unmap()
	for _, allowed := range p.Allow {
		if allowed.Contains(addr) {
			return nil
		}
	}
	if !publicAddr(addr) {
		return &BlockedError{Reason: "address is private", Remedy: remedyAllow}
	}
	if port := to.Port(); !p.portOpen(port) {
		return &BlockedError{Reason: fmt.Sprintf("port %d is not open to webhooks", port), Remedy: remedyAllow}
	}
	return nil
}

func (p *Policy) portOpen(port uint16) bool {
	switch port {
	case 443, 8443:
		return true
	case 80, 8080:
		return p.HTTP || slices.Contains(p.Ports, port)
	}
	return slices.Contains(p.Ports, port)
}

// publicAddr reports whether an unmapped address is part of the public internet.
// Of IPv6 that is 2000::/3 less what is set aside inside it. NAT64 and ISATAP
// addresses, which a network turns into an IPv4 address, are judged as that one.
func publicAddr(addr netip.Addr) bool {
	if addr.Is4() {
		return !within(addr,
			"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
			"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
			"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
			"168.63.129.16/32") // the host agent of a cloud, on a public looking address
	}
	if !addr.Is6() {
		return false
	}
	b := addr.As16()
	inner := netip.AddrFrom4([4]byte(b[12:16]))
	if within(addr, "64:ff9b::/96") {
		return publicAddr(inner)
	}
	if isatap := [4]byte(b[8:12]); isatap == [4]byte{0, 0, 0x5e, 0xfe} || isatap == [4]byte{2, 0, 0x5e, 0xfe} {
		return publicAddr(inner) && within(addr, "2000::/3")
	}
	return within(addr, "2000::/3") &&
		!within(addr, "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20") // Teredo and trials, examples, 6to4
}

// within reports whether one of the networks contains the address. It parses them
// anew: that costs a microsecond, and a connect costs a thousand.
func within(addr netip.Addr, networks ...string) bool {
	return slices.ContainsFunc(networks, func(n string) bool { return netip.MustParsePrefix(n).Contains(addr) })
}

// asBlocked finds the policy's refusal in an error.
func asBlocked(err error) (*BlockedError, bool) {
	var b *BlockedError
	ok := errors.As(err, &b)
	return b, ok
}
