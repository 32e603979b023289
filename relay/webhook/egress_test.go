package webhook

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// hostileHosts are ways to name an address that webhooks must not reach.
func hostileHosts() []string {
	return strings.Fields(`
		127.0.0.1 127.0.0.2 127.1 127.0.1 127.255.255.254 0.0.0.0 0 0.0.0.1 0x7f.1 0x7f000001 0X7F000001 0x7f.0x0.0x0.0x1
		2130706433 017700000001 0177.0.0.1 0177.1 127.0.0.01 00127.0.0.1 127.0.0.1. 127.0.0.0x1 127.0x1 0x7f.0.0.1 0xffffffff
		4294967295 0x100000000 127.0.0.1.. 127..1 .127.0.0.1 127.0.0 0xa9fea9fe 2852039166 0251.0376.0251.0376 169.254.169.254
		169.254.170.2 169.254.0.0 169.254.255.255 169.254.169.254. 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254
		100.100.100.200 172.16.0.1 172.31.255.255 172.17.0.1 192.168.0.1 192.168.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
		198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
		[::] [::1] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::0001] [::ffff:127.0.0.1] [::ffff:7f00:1]
		[::FFFF:127.0.0.1] [0:0:0:0:0:ffff:127.0.0.1] [::ffff:10.0.0.1] [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::ffff:192.168.1.1]
		[::ffff:0.0.0.0] [::ffff:0:127.0.0.1] [::127.0.0.1] [::7f00:1] [::10.0.0.1] [::8.8.8.8] [::169.254.169.254] [::ffff:168.63.129.16]
		[64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b::10.0.0.1] [64:ff9b::c0a8:1] [64:ff9b:1::1] [64:ff9b:1::8.8.8.8]
		[2002:7f00:1::] [2002:7f00:0001::1] [2002:a9fe:a9fe::1] [2002:a00:1::] [2002:c0a8:101::1] [2002:808:808::1] [2001::1] [2001:0:7f00:1::]
		[2001:0000:4136:e378:8000:63bf:3fff:fdd2] [2001:10::1] [2001:20::1] [2001:db8::1] [3fff::1] [100::1] [fc00::1] [fd00::1]
		[fd00:ec2::254] [fdff:ffff::1] [fe80::1] [fe80::1%25eth0] [fe80::1%25lo] [::1%25lo] [febf::1] [fec0::1] [ff02::1] [ff05::1] [4000::1] [5f00::1]
		[2600::5efe:127.0.0.1] [2600::200:5efe:10.0.0.1] [1::1] [e000::1]
		localhost LOCALHOST localhost. LocalHost. localhost.. ip6-localhost
		user@127.0.0.1 user:pass@127.0.0.1 @127.0.0.1 :@127.0.0.1 example.com@127.0.0.1 127.0.0.1@example.com example.com:443@127.0.0.1
		127.0.0.1%2f 127.0.0.1%00 127.0.0.1%0a 127%2e0%2e0%2e1 %6c%6f%63%61%6c%68%6f%73%74 １２７.0.0.1 127。0。0。1 ①②⑦.0.0.1 ⓛocalhost lоcalhost
		loc\u00adalhost [127.0.0.1] [localhost] [::1 ::1] [] [::1]x [v1.fe80::a] [0x7f.1] -a.example a-.example a..b _ . .. ""`)
}

// hostileURLs are whole forms that must not be requested, with a port to hit.
func hostileURLs(port string) []string {
	return []string{
		"", " ", "http:", "http:/", "http://", "https://", "http:///x", "http://:" + port, "//127.0.0.1:" + port, "127.0.0.1:" + port, "/path",
		"http:127.0.0.1:" + port, "http:/127.0.0.1:" + port, "http:\\\\127.0.0.1:" + port, "http://127.0.0.1\\@example.com:" + port,
		"ftp://127.0.0.1:" + port, "file:///etc/passwd", "gopher://127.0.0.1:" + port, "unix:///var/run/docker.sock", "javascript:alert(1)",
		"data:text/plain,x", "ws://127.0.0.1:" + port, "h2c://127.0.0.1:" + port, "http+unix://127.0.0.1", "jar:http://127.0.0.1",
		"http://127.0.0.1:" + port + "\r\nHost: x", "http://127.0.0.1:" + port + "/\x00", "http://127.0.0.1:" + port + "/ x", "\thttp://127.0.0.1:" + port,
		"http://127.0.0.1\t:" + port, "http://127.0.0.1:" + port + "#@example.com", "http://127.0.0.1:" + port + "?@example.com",
		"http://8.8.8.8:0", "http://8.8.8.8:65536", "http://8.8.8.8:-1", "http://8.8.8.8:", "http://8.8.8.8:080", "http://8.8.8.8:x",
		"http://8.8.8.8:22", "http://8.8.8.8:25", "http://8.8.8.8:3306", "http://8.8.8.8:5432", "http://8.8.8.8:6379", "http://8.8.8.8:2375",
		"http://8.8.8.8:11211", "http://8.8.8.8:65535", "http://[2606:4700::1111]:22", "http://8.8.8.8:4４3",
		"https://" + strings.Repeat("a", 64) + ".example", "https://" + strings.Repeat("a.", 130) + "example", "https://a.example/" + strings.Repeat("x", maxURL),
	}
}

func TestNoHostileTargetIsEverConnectedTo(t *testing.T) {
	var connects atomic.Int64
	port := ""
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		if port != "" {
			listen = "[::1]:" + port
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			require.NotEmpty(t, port, "a machine without IPv6 is fine, without IPv4 is not")
			continue
		}
		defer l.Close()
		_, port, _ = net.SplitHostPort(l.Addr().String())
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				connects.Add(1)
				_ = c.Close()
			}
		}()
	}
	urls := hostileURLs(port)
	for _, host := range hostileHosts() {
		urls = append(urls, "http://"+host+":"+port+"/x", "https://"+host+"/x")
	}
	require.Greater(t, len(urls), 300)

	// The loosest policy that is no allow list, and the port of the listener open.
	listening, err := net.LookupPort("tcp", port)
	require.NoError(t, err)
	sender := NewSender(SenderConfig{
		Egress:  Policy{HTTP: true, Ports: []uint16{uint16(listening)}},
		Timeout: 2 * time.Second,
	})
	defer sender.Close()
	for _, raw := range urls {
		a := sender.Send(t.Context(), relay.Delivery{Body: []byte("{}")}, &relay.Subscription{TargetURL: raw})
		class := FailureClass(a.Error)
		require.Contains(t, []string{classBlocked, classDNS}, class, "%q gave %q", raw, a.Error)
		require.Zero(t, a.StatusCode)
		if len(raw) > 12 {
			require.NotContains(t, a.Error, raw)
		}
	}
	require.Zero(t, connects.Load())
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
	for _, h := range hostileHosts() {
		f.Add("https://" + h + "/")
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
