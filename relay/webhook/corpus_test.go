package webhook

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// form is one line of a corpus.
type form struct {
	url     string
	answers []netip.Addr // of its name
	refusal string       // what must be said, or one of several with a bar between them
}

// refusedBy reports whether a text says what must be said.
func (f form) refusedBy(text string) bool {
	return slices.ContainsFunc(strings.Split(f.refusal, " | "), func(r string) bool { return strings.Contains(text, r) })
}

// readForms reads a corpus. How its files are written stands at the top of
// testdata/ssrf.txt.
func readForms(t testing.TB, name string, port uint16) []form {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	var forms []form
	refusal, seen := "", map[string]bool{}
	scanner := bufio.NewScanner(strings.NewReader(string(content)))
	for scanner.Scan() {
		line := scanner.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if text, ok := strings.CutPrefix(line, "refused: "); ok {
			refusal = text
			continue
		}
		var target, rest string
		if quoted, err := strconv.QuotedPrefix(line); err == nil {
			rest = line[len(quoted):]
			target, err = strconv.Unquote(quoted)
			require.NoError(t, err, line)
		} else {
			target, rest, _ = strings.Cut(line, " ")
		}
		require.False(t, seen[target], "%q stands there twice", target)
		seen[target] = true
		f := form{url: strings.ReplaceAll(target, "PORT", strconv.Itoa(int(port))), refusal: refusal}
		for field := range strings.FieldsSeq(rest) {
			f.answers = append(f.answers, netip.MustParseAddr(field))
		}
		forms = append(forms, f)
	}
	require.NoError(t, scanner.Err())
	return forms
}

// names is the zone of the forms.
func names(forms []form) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, f := range forms {
		if u, err := url.Parse(f.url); err == nil && f.answers != nil {
			out[strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))] = f.answers
		}
	}
	return out
}

// eavesdropper listens on the same port of several addresses, and counts who comes.
// An address that this machine does not have cannot be connected to either.
func eavesdropper(t *testing.T, hosts ...string) (port uint16, heard *atomic.Int64) {
	t.Helper()
	heard = &atomic.Int64{}
	var accepting sync.WaitGroup
	t.Cleanup(accepting.Wait) // after the listeners were closed
	for i, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil && i > 0 {
			t.Logf("%s is not listened on: %v", host, err)
			continue
		}
		require.NoError(t, err)
		port = netip.MustParseAddrPort(l.Addr().String()).Port()
		accepting.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				heard.Add(1)
				_ = c.Close()
			}
		})
		t.Cleanup(func() { _ = l.Close() })
	}
	return port, heard
}

// countDials counts the connections that a sender opens, but those to the given address.
func countDials(s *Sender, but string) *atomic.Int64 {
	dials := &atomic.Int64{}
	dial := s.transport.DialContext
	s.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err == nil && address != but {
			dials.Add(1)
		}
		return c, err
	}
	return dials
}

func TestNoFormOfTheCorpusIsEverConnectedTo(t *testing.T) {
	port, heard := eavesdropper(t, "127.0.0.1", "::1", "127.0.0.2")
	forms := readForms(t, "testdata/ssrf.txt", port)
	require.GreaterOrEqual(t, len(forms), 300)

	// The loosest policy that is no allow list, and the port of the listener open.
	cfg := SenderConfig{Egress: Policy{HTTP: true, Ports: []uint16{port}}, Timeout: 5 * time.Second}
	asIs, named := NewSender(cfg), asking(NewSender(cfg), nameserver(t, zone(names(forms))))
	t.Cleanup(asIs.Close)
	t.Cleanup(named.Close)
	dials, namedDials := countDials(asIs, ""), countDials(named, "")

	ran := 0
	for _, f := range forms {
		sender := asIs
		if f.answers != nil {
			sender = named
		}
		a := sender.Send(t.Context(), relay.Delivery{Body: []byte("{}")}, &relay.Subscription{TargetURL: f.url})
		if class := FailureClass(a.Error); class != classBlocked || !f.refusedBy(a.Error) {
			t.Errorf("%q gave %q and not %q", f.url, a.Error, f.refusal)
		}
		require.Zero(t, a.StatusCode, "%q", f.url)
		if len(f.url) > 12 {
			require.NotContains(t, a.Error, f.url)
		}
		ran++
	}
	require.Equal(t, len(forms), ran)
	require.Zero(t, heard.Load())
	require.Zero(t, dials.Load()+namedDials.Load())
	t.Logf("%d forms", ran)
}

func TestNoRedirectToAFormOfTheCorpusIsFollowed(t *testing.T) {
	port, heard := eavesdropper(t, "127.0.0.1", "::1")
	forms := slices.DeleteFunc(readForms(t, "testdata/ssrf.txt", port), func(f form) bool {
		return strings.ContainsFunc(f.url, unicode.IsControl) // no header carries it
	})
	require.GreaterOrEqual(t, len(forms), 300)
	codes := []int{301, 302, 303, 307, 308, 300, 305}
	var n int
	target := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", forms[n].url)
		w.WriteHeader(codes[n%len(codes)])
	})
	s := testSender(t, 5*time.Second) // which may connect to all of 127.0.0.0/8
	dials := countDials(s, strings.TrimPrefix(target, "http://"))
	for n = range forms {
		a := send(t, s, target)
		require.Equal(t, codes[n%len(codes)], a.StatusCode, "%q: %s", forms[n].url, a.Error)
		require.Contains(t, a.Error, "redirects are not followed")
	}
	require.Zero(t, heard.Load())
	require.Zero(t, dials.Load())
}

func TestPublicFormsPassTheGuard(t *testing.T) {
	const port = 9000
	policy := Policy{HTTP: true, Ports: []uint16{port}}
	guard := guardedDialer(policy, time.Second).ControlContext
	forms := readForms(t, "testdata/public.txt", port)
	require.Greater(t, len(forms), 80)
	for _, f := range forms {
		u, err := policy.parse(f.url)
		require.NoError(t, err, f.url)
		to, err := cleanPort(u)
		require.NoError(t, err, f.url)
		addrs := f.answers
		if literal, err := netip.ParseAddr(u.Hostname()); err == nil {
			addrs = append(addrs, literal)
		}
		require.NotEmpty(t, addrs, "%s has no address to judge", f.url)
		for _, a := range addrs {
			network := "tcp6"
			if a.Is4() {
				network = "tcp4"
			}
			require.NoError(t, guard(t.Context(), network, netip.AddrPortFrom(a, to).String(), nil), f.url)
		}
	}
}

func TestANameThatMovesToAForbiddenAddressIsRefusedAtTheNextConnect(t *testing.T) {
	var moved atomic.Bool
	allowed, forbidden := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	names := nameserver(t, func(string, bool) ([]netip.Addr, bool) {
		if moved.Load() {
			return []netip.Addr{forbidden}, true
		}
		return []netip.Addr{allowed}, true
	})
	target := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	target = strings.Replace(target, "127.0.0.1", "moves.test", 1)
	cfg := SenderConfig{Egress: Policy{HTTP: true, Allow: []netip.Prefix{netip.PrefixFrom(allowed, 32)}}, Timeout: 5 * time.Second}
	s := asking(NewSender(cfg), names)
	t.Cleanup(s.Close)

	require.NoError(t, CheckURL(target, cfg.Egress), "its form is a good one")
	require.Empty(t, send(t, s, target).Error)
	moved.Store(true)
	require.Contains(t, send(t, s, target).Error, "address is private")
	moved.Store(false)
	require.Empty(t, send(t, s, target).Error)
}

func TestOfTheAddressesOfANameOnlyThoseThatAreAllowedAreConnectedTo(t *testing.T) {
	port, heard := eavesdropper(t, "127.0.0.2", "::1")
	allowed := netip.MustParseAddr("127.0.0.1")
	forbidden := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("169.254.169.254")}
	cfg := SenderConfig{Egress: Policy{HTTP: true, Allow: []netip.Prefix{netip.PrefixFrom(allowed, 32)}}, Timeout: 5 * time.Second}
	s := asking(NewSender(cfg), nameserver(t, zone(map[string][]netip.Addr{
		"first.test": append([]netip.Addr{allowed}, forbidden...),
		"last.test":  append(forbidden, allowed),
		"only.test":  forbidden,
	})))
	t.Cleanup(s.Close)

	// Nobody listens at the allowed address: the others are tried, and refused.
	for _, host := range []string{"first.test", "last.test", "only.test"} {
		a := send(t, s, "http://"+host+":"+strconv.Itoa(int(port)))
		require.Contains(t, []string{classBlocked, classConnect}, FailureClass(a.Error), a.Error)
	}
	require.Zero(t, heard.Load())

	// Somebody does: it gets the request, whatever else the name has.
	var asked atomic.Int64
	target := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for _, host := range []string{"first.test", "last.test"} {
		require.Empty(t, send(t, s, strings.Replace(target, "127.0.0.1", host, 1)).Error)
	}
	require.Equal(t, int64(2), asked.Load())
}

// A proxy would look up and dial in our place, where the guard sees nothing.
func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	port, heard := eavesdropper(t, "127.0.0.1")
	proxy := "http://127.0.0.1:" + strconv.Itoa(int(port))
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, proxy)
	}
	var asked atomic.Int64
	target := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	s := asking(testSender(t, 5*time.Second), nameserver(t, zone(map[string][]netip.Addr{"proxied.test": {netip.MustParseAddr("127.0.0.1")}})))
	require.Nil(t, s.transport.Proxy)
	require.Empty(t, send(t, s, strings.Replace(target, "127.0.0.1", "proxied.test", 1)).Error)
	require.Equal(t, int64(1), asked.Load())
	require.Zero(t, heard.Load())
}
