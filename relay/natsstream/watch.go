package natsstream

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/dot-do/relay/relay"
)

// Watch calls fn for every event from now on, as any NATS subscriber sees it:
// live, once, without acknowledgement, and with gaps while the connection is
// away. Only the Event of the message is set. The returned func ends it.
func (c *Client) Watch(fn func(relay.Event)) (stop func(), err error) {
	sub, err := c.nc.Subscribe(eventSubjects, func(msg *nats.Msg) {
		e := relay.Event{Type: msg.Subject[len(eventPrefix):], Body: msg.Data}
		if _, err := parseHeader(msg.Header, &e); err == nil {
			fn(e)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", eventSubjects, err)
	}
	// Events do not queue up behind what the library has yet to send.
	if err := c.nc.FlushTimeout(apiTimeout); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe to %s: %w", eventSubjects, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only without a connection
}
