package webhook

import (
	"net/http"
	"net/url"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

// PlantPanic makes the filter of a subscription panic: in the index, and alone.
func PlantPanic(e *Engine, id string) {
	find, ask := e.dir.find, e.dir.ask
	e.dir.find = func(m *filters.Matches[*relay.Subscription], eventType, owner string, ev *filters.Event) {
		if e.dir.usable(e.dir.get(id)) {
			panic("planted")
		}
		find(m, eventType, owner, ev)
	}
	e.dir.ask = func(s *relay.Subscription, ev *filters.Event) filters.Verdict {
		if s.ID == id {
			panic("planted")
		}
		return ask(s, ev)
	}
}

// BreakIndex makes the index panic at every event.
func BreakIndex(e *Engine) {
	e.dir.find = func(*filters.Matches[*relay.Subscription], string, string, *filters.Event) { panic("planted") }
}

// BreakSender makes every attempt panic.
func BreakSender(e *Engine) {
	e.sender.transport.Proxy = func(*http.Request) (*url.URL, error) { panic("planted") }
}
