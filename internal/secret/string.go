package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every formatter prints for a secret that is set.
const redacted = "***"

// String holds a secret and prints as *** through fmt, slog, JSON, YAML and any
// other text encoder. The zero value is the empty secret and prints as nothing,
// so that a dump shows which secrets are set. Only Reveal gives the content.
//
// The content sits behind a pointer: fmt prints the fields of unexported struct
// members without asking their methods, and must find an address there. Compare
// secrets with Equal, not with ==.
type String struct {
	content *string
}

// New wraps content.
func New(content string) String {
	if content == "" {
		return String{}
	}
	return String{content: &content}
}

// Reveal returns the content: for the call that needs it, never for a message.
func (s String) Reveal() string {
	if s.content == nil {
		return ""
	}
	return *s.content
}

// IsZero reports whether the secret is empty.
func (s String) IsZero() bool { return s.content == nil }

// Equal reports whether both hold the same content. It takes as long as the
// common prefix: it is for noticing a changed setting, not for checking a token.
func (s String) Equal(other String) bool { return s.Reveal() == other.Reveal() }

// String returns *** for a secret that is set.
func (s String) String() string {
	if s.content == nil {
		return ""
	}
	return redacted
}

// Format prints *** whatever the verb and flags; %x or %#v find nothing more.
func (s String) Format(f fmt.State, _ rune) {
	// The state is a buffer of fmt; its error would be reported by the printer.
	_, _ = io.WriteString(f, s.String())
}

// LogValue makes slog print ***.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText makes JSON, YAML and every other text encoder print ***.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the content from a configuration file or variable.
func (s *String) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}
