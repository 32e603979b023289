// Package faultproxy puts a TCP proxy that fails on demand between a process under
// test and its server.
//
// It does what a network does to a connection, and knows no protocol: it cuts (also
// in the middle of a message), refuses, goes silent in one direction or both, is
// slow, and is far away.
package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Direction of bytes, seen from the client.
type Direction int

// Up is from the client to the server.
const (
	Up Direction = iota
	Down
)

// chunk is small: rate and delay act on each.
const chunk = 16 << 10

// Proxy forwards connections to one server.
type Proxy struct {
	Addr string // stable, also while it refuses

	t      testing.TB
	target string
	done   chan struct{}
	wg     sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]net.Conn // client to server
	silent   [2]bool
	left     [2]int // bytes until all is cut; negative: no end
	rate     int    // bytes per second in each direction of each connection
	delay    time.Duration
	changed  chan struct{} // closed when the settings change
	passed   [2]int64
}

// New starts a proxy that forwards everything. It ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{
		t: t, target: target, done: make(chan struct{}), conns: map[net.Conn]net.Conn{},
		left: [2]int{-1, -1}, changed: make(chan struct{}),
	}
	p.listen("127.0.0.1:0")
	t.Cleanup(func() {
		close(p.done)
		p.Refuse()
		p.wg.Wait()
	})
	return p
}

func (p *Proxy) listen(address string) {
	l, err := net.Listen("tcp", address)
	require.NoError(p.t, err)
	p.mu.Lock()
	p.listener, p.Addr = l, l.Addr().String()
	p.mu.Unlock()
	p.wg.Go(func() { p.accept(l) })
}

// Refuse cuts every connection and refuses new ones until Heal.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.Reset()
}

// Reset cuts every connection, without a farewell. New ones are welcome.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.conns {
		abort(client)
		abort(server)
		delete(p.conns, client)
	}
}

func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an orderly end
	}
	_ = c.Close()
}

// Silence holds back what is sent in the direction, over old and new connections,
// until Heal: nobody hears of it.
func (p *Proxy) Silence(directions ...Direction) {
	p.change(func() {
		for _, d := range directions {
			p.silent[d] = true
		}
	})
}

// CutAfter cuts every connection once n bytes more went in the direction: in the
// middle of a message, as likely as not.
func (p *Proxy) CutAfter(d Direction, n int) {
	p.change(func() { p.left[d] = n })
}

// Slow delays each chunk and limits the bytes per second; a rate of 0 is no limit.
func (p *Proxy) Slow(delay time.Duration, rate int) {
	p.change(func() { p.delay, p.rate = delay, rate })
}

// Heal ends every fault. Connections that went silent go on; those cut are gone.
func (p *Proxy) Heal() {
	p.change(func() { p.silent, p.left, p.rate, p.delay = [2]bool{}, [2]int{-1, -1}, 0, 0 })
	p.mu.Lock()
	closed := p.listener == nil
	p.mu.Unlock()
	if closed {
		p.listen(p.Addr)
	}
}

// Passed counts the bytes that went in the direction.
func (p *Proxy) Passed(d Direction) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed[d]
}

func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			abort(client)
			continue
		}
		p.mu.Lock()
		if p.listener != l { // refused meanwhile
			p.mu.Unlock()
			abort(client)
			abort(server)
			continue
		}
		p.conns[client] = server
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(client, server, Up, client) })
		p.wg.Go(func() { p.pump(server, client, Down, client) })
	}
}

// pump forwards one direction of one connection; key is its client side.
func (p *Proxy) pump(from, to net.Conn, d Direction, key net.Conn) {
	defer func() {
		p.mu.Lock()
		delete(p.conns, key)
		p.mu.Unlock()
		_ = from.Close()
		_ = to.Close()
	}()
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.forward(to, buf[:n], d) {
			return
		}
		if err != nil {
			// An end is news, too: while the direction is silent nobody hears of it.
			if errors.Is(err, io.EOF) {
				p.pass(d, 0)
			}
			return
		}
	}
}

func (p *Proxy) forward(to net.Conn, data []byte, d Direction) bool {
	allowed, open := p.pass(d, len(data))
	if allowed > 0 {
		if _, err := to.Write(data[:allowed]); err != nil {
			return false
		}
	}
	if !open {
		p.Reset()
	}
	return open
}

// pass waits until n bytes may go in the direction, and returns how many may, and
// whether the connection goes on behind them.
func (p *Proxy) pass(d Direction, n int) (allowed int, open bool) {
	for {
		p.mu.Lock()
		changed, silent, wait := p.changed, p.silent[d], p.delay
		if p.rate > 0 {
			wait += time.Duration(n) * time.Second / time.Duration(p.rate)
		}
		p.mu.Unlock()
		if !silent {
			if wait > 0 && !p.wait(wait) {
				return 0, false
			}
			break
		}
		select {
		case <-changed:
		case <-p.done:
			return 0, false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left[d] >= 0 {
		if n >= p.left[d] {
			n, p.left[d] = p.left[d], -1 // once
			p.passed[d] += int64(n)
			return n, false
		}
		p.left[d] -= n
	}
	p.passed[d] += int64(n)
	return n, true
}

func (p *Proxy) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.done:
		return false
	}
}
