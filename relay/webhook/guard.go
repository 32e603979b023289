package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	maxResponseHeader = 64 << 10
	idlePerHost       = 8
	idleTotal         = 512
	idleTimeout       = 90 * time.Second
)

// guardedDialer connects to what the policy lets pass and to nothing else. It
// judges the address that the connection is really made to, after every name
// lookup and redirection of the resolver, so a name that changes its address
// between check and connect gains nothing.
func guardedDialer(policy Policy, timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: timeout,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if network != "tcp4" && network != "tcp6" {
				return blocked("network is not tcp")
			}
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return blocked("address cannot be parsed")
			}
			return policy.checkAddr(to)
		},
	}
}

// newTransport builds the one HTTP client of the engine. It uses no proxy, since
// a proxy would dial in our place, keeps no cookies and follows no redirects.
func newTransport(policy Policy, timeout time.Duration, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            guardedDialer(policy, timeout).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    timeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: timeout, PingTimeout: timeout},
		DisableCompression:     true, // no gzip bomb: what is stored is what was sent
		MaxResponseHeaderBytes: maxResponseHeader,
		MaxIdleConns:           idleTotal,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
	}
}
