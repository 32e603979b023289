package webhook

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestALongTargetURLIsRefusedUnparsed(t *testing.T) {
	require.NoError(t, CheckURL("https://a.example/"+strings.Repeat("x", maxURL-len("https://a.example/")), Policy{}))
	require.ErrorContains(t, CheckURL("https://a.example/"+strings.Repeat("x", maxURL), Policy{}), "longer than")
}

func TestPrivateAddressesAreBlockedWithTheRemedy(t *testing.T) {
	for _, raw := range []string{"https://127.0.0.1/hook", "https://localhost/hook", "https://[::1]/hook"} {
		sender := NewSender(SenderConfig{})
		a := sender.Send(t.Context(), relay.Delivery{}, &relay.Subscription{TargetURL: raw})
		require.Contains(t, a.Error, "address is private")
		require.Contains(t, a.Error, "RELAY_EGRESS_ALLOW")
		sender.Close()
	}
}

func TestAddressesAreJudgedByPolicy(t *testing.T) {
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00:1::/32")}
	for _, tc := range []struct {
		policy Policy
		to     string
		ok     bool
	}{
		{Policy{}, "8.8.8.8:443", true},
		{Policy{}, "8.8.8.8:8443", true},
		{Policy{}, "8.8.8.8:80", false},
		{Policy{}, "8.8.8.8:22", false},
		{Policy{}, "8.8.8.8:0", false},
		{Policy{HTTP: true}, "8.8.8.8:80", true},
		{Policy{HTTP: true}, "8.8.8.8:8080", true},
		{Policy{HTTP: true}, "8.8.8.8:8081", false},
		{Policy{Ports: []uint16{9000}}, "8.8.8.8:9000", true},
		{Policy{Ports: []uint16{9000}}, "10.0.0.1:9000", false},
		{Policy{}, "[2606:4700::1111]:443", true},
		{Policy{}, "[::ffff:8.8.8.8]:443", true},
		{Policy{}, "[64:ff9b::808:808]:443", true},
		{Policy{}, "[2002:808:808::1]:443", false},
		{Policy{}, "[2600::5efe:808:808]:443", true},
		{Policy{Allow: allow}, "127.0.0.1:9999", true},
		{Policy{Allow: allow}, "[::ffff:127.0.0.1]:9999", true},
		{Policy{Allow: allow}, "[64:ff9b::7f00:1]:443", false},
		{Policy{Allow: allow}, "[fd00:1::1]:22", true},
		{Policy{Allow: allow}, "[fd00:2::1]:443", false},
		{Policy{Allow: allow}, "10.0.0.1:443", false},
		{Policy{Allow: allow}, "8.8.8.8:9999", false},
	} {
		err := tc.policy.checkAddr(netip.MustParseAddrPort(tc.to))
		if tc.ok {
			require.NoError(t, err, tc.to)
		} else {
			_, is := asBlocked(err)
			require.True(t, is, tc.to)
		}
	}
}

func TestOrdinaryTargetsPassTheSyntaxCheck(t *testing.T) {
	for raw, want := range map[string]string{
		"https://hooks.zapier.com/hooks/standard/1/abc/": "https://hooks.zapier.com/hooks/standard/1/abc/",
		"HTTPS://Hooks.Example.COM./a?b=c%20d":           "https://hooks.example.com/a?b=c%20d",
		"https://xn--bcher-kva.example/x#fragment":       "https://xn--bcher-kva.example/x",
		"https://a_b.example:8443":                       "https://a_b.example:8443",
		"https://8.8.8.8/x":                              "https://8.8.8.8/x",
		"https://[2606:4700:0:0::1111]:443/x":            "https://[2606:4700::1111]:443/x",
		"https://1password.example/":                     "https://1password.example/",
		"https://0xab.example/":                          "https://0xab.example/",
		"https://example.com:22/":                        "https://example.com:22/", // judged when it is dialled
	} {
		p := Policy{}
		u, err := p.parse(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, u.String())
		require.NoError(t, CheckURL(raw, p))
	}
	require.ErrorContains(t, CheckURL("http://example.com/", Policy{}), "RELAY_EGRESS_HTTP")
	require.NoError(t, CheckURL("http://example.com/", Policy{HTTP: true}))
}

func FuzzCheckURLNeverLetsAPrivateAddressPass(f *testing.F) {
	for _, seed := range readForms(f, "testdata/ssrf.txt", 443) {
		f.Add(seed.url)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p := Policy{HTTP: true}
		u, err := p.parse(raw)
		if err != nil {
			return
		}
		again, err := p.parse(u.String())
		require.NoError(t, err, "the form that is dialled passes as well")
		require.Equal(t, u.Host, again.Host)
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
			require.True(t, publicAddr(addr.Unmap()), fmt.Sprint(addr))
		}
	})
}
