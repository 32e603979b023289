//go:build unix

package pgsource

import (
	"crypto/tls"
	"net"
	"syscall"
)

// hush makes the kernel keep quiet about what arrives until it is n bytes. It does
// nothing where it cannot: the connection only costs more.
func hush(conn net.Conn, n int) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
	})
}
