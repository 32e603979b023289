package webhook

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// answerer says what addresses a name has, and whether there is such a name. It is
// asked twice for a lookup: for IPv4, and for IPv6.
type answerer func(name string, v6 bool) (addrs []netip.Addr, known bool)

// nameserver is a DNS server on UDP, and the resolver that asks it.
func nameserver(t *testing.T, ask answerer) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(respond(buf[:n], ask), from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
		},
	}
}

// respond answers a query of one question, without caching.
func respond(query []byte, ask answerer) []byte {
	const header, address, address6 = 12, 1, 28
	var labels []string
	end := header
	for query[end] != 0 {
		next := end + 1 + int(query[end])
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	end += 5 // the root label, type and class
	kind := binary.BigEndian.Uint16(query[end-4:])
	out := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[header:end]...)
	if kind != address && kind != address6 {
		return out
	}
	addrs, known := ask(strings.ToLower(strings.Join(labels, ".")), kind == address6)
	if !known {
		out[3] |= 3 // no such name
	}
	for _, a := range addrs {
		if a.Is4() != (kind == address) {
			continue
		}
		out[7]++
		out = append(out, 0xc0, header, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(a.BitLen()/8))
		out = append(out, a.AsSlice()...)
	}
	return out
}

// zone answers from a table.
func zone(names map[string][]netip.Addr) answerer {
	return func(name string, _ bool) ([]netip.Addr, bool) {
		addrs, known := names[name]
		return addrs, known
	}
}

// asking makes a sender resolve names by another resolver; its guard stays.
func asking(s *Sender, r *net.Resolver) *Sender {
	d := guardedDialer(s.cfg.Egress, s.cfg.Timeout)
	d.Resolver = r
	s.transport.DialContext = d.DialContext
	return s
}
