package faultproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo serves lines back.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ask(c net.Conn, within time.Duration) (string, error) {
	_ = c.SetDeadline(time.Now().Add(within))
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func TestAProxyForwardsAndFailsOnDemand(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	got, err := ask(c, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "hello\n", got)

	p.Reset()
	_, err = ask(c, 5*time.Second)
	require.Error(t, err)
	_, err = ask(dial(t, p), 5*time.Second)
	require.NoError(t, err)

	p.Refuse()
	_, err = net.Dial("tcp", p.Addr)
	require.Error(t, err)
	p.Heal()
	_, err = ask(dial(t, p), 5*time.Second)
	require.NoError(t, err)
}

func TestSilenceHoldsBackAndHealLetsGo(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	p.Silence(Down)
	_, err := ask(c, 50*time.Millisecond)
	require.ErrorIs(t, err, errTimeout(err))
	p.Heal()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	got, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", got)
}

// errTimeout returns err when it is a timeout.
func errTimeout(err error) error {
	if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // as the connection returned it
		return err
	}
	return io.ErrNoProgress
}

func TestACutComesInTheMiddleOfAMessageAndOnce(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	p.CutAfter(Down, 3)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err := fmt.Fprintln(c, "hello")
	require.NoError(t, err)
	got, err := io.ReadAll(c)
	require.LessOrEqual(t, len(got), 3)
	if len(got) == 3 {
		require.Equal(t, "hel", string(got))
	}
	_ = err // a reset may overtake what was sent before it
	require.EqualValues(t, 3, p.Passed(Down))
	_, err = ask(dial(t, p), 5*time.Second)
	require.NoError(t, err)
}

func TestASlowProxyTakesItsTime(t *testing.T) {
	p := New(t, echo(t))
	p.Slow(50*time.Millisecond, 0)
	c := dial(t, p)
	asked := time.Now()
	_, err := ask(c, 5*time.Second)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(asked), 100*time.Millisecond, "both ways")
	p.Slow(0, 60)
	asked = time.Now()
	_, err = ask(c, 5*time.Second)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(asked), 200*time.Millisecond, "twelve bytes at sixty a second")
}
