package webhook

import (
	"net/http"
	"net/url"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

// SetVerdict replaces the evaluation of filters.
func SetVerdict(e *Engine, verdict func(*relay.Subscription, filters.Doc) filters.Verdict) {
	e.dir.verdict = verdict
}

// BreakSender makes every attempt panic.
func BreakSender(e *Engine) {
	e.sender.transport.Proxy = func(*http.Request) (*url.URL, error) { panic("planted") }
}
