package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// Classes of failed attempts: the word before the colon of Attempt.Error.
const (
	classTimeout  = "timeout"
	classConnect  = "connect"
	classDNS      = "dns"
	classTLS      = "tls"
	classBlocked  = "blocked"
	classReset    = "reset"
	classProtocol = "protocol"
	classStatus   = "status"
	classSecret   = "secret"
	classInternal = "internal"
)

// FailureClass returns the class of an Attempt.Error: one of timeout, connect,
// dns, tls, blocked, reset, protocol, status, secret and internal; empty for
// success.
func FailureClass(attemptError string) string {
	class, _, _ := strings.Cut(attemptError, ":")
	return class
}

// describe turns the error of a request into the text of Attempt.Error. The texts
// are fixed: errors of the net packages quote URLs and host names.
func describe(err error) string {
	if b, ok := asBlocked(err); ok {
		return b.Error()
	}
	if text := describeTLS(err); text != "" {
		return text
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err):
		return classTimeout + ": no complete answer in time"
	case errors.As(err, &dns) && dns.IsNotFound:
		return classDNS + ": host name does not exist"
	case errors.As(err, &dns):
		return classDNS + ": host name could not be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return classConnect + ": connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
		return classConnect + ": host is unreachable"
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		return classConnect + ": this process has no file descriptor left"
	case errors.As(err, &op) && op.Op == "dial":
		return classConnect + ": no connection"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "server closed"):
		return classReset + ": connection closed before the answer; the request may have been processed"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return classTLS + ": server does not speak TLS"
	}
	return classProtocol + ": answer is no acceptable HTTP response"
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func describeTLS(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	switch {
	case errors.As(err, &authority):
		return classTLS + ": certificate is signed by an unknown authority"
	case errors.As(err, &hostname):
		return classTLS + ": certificate is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return classTLS + ": certificate has expired or is not yet valid"
	case errors.As(err, &invalid) || errors.As(err, &verify):
		return classTLS + ": certificate is invalid"
	case errors.As(err, &record):
		return classTLS + ": server does not speak TLS"
	case errors.As(err, &alert) || strings.Contains(err.Error(), "tls: "):
		return classTLS + ": handshake failed"
	}
	return ""
}

// describeStatus is the text for an answer that is no success.
func describeStatus(code int) string {
	text := http.StatusText(code)
	switch {
	case code == http.StatusSwitchingProtocols:
		text = "Switching Protocols is no answer to a webhook"
	case code >= 300 && code < 400:
		text += ", redirects are not followed"
	case text == "":
		text = "unknown status"
	}
	return fmt.Sprintf("%s: %d %s", classStatus, code, text)
}
