package natsstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
)

func TestWatchSeesEventsAndNoAnnouncements(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w := ready(t, c)
	seen := make(chan relay.Event, 4)
	stop, err := c.Watch(func(e relay.Event) { seen <- e })
	require.NoError(t, err)
	require.NoError(t, w.Append(t.Context(), []relay.Event{announcement(1, "a"), event(2), event(3)}))
	for _, want := range []relay.Event{event(2), event(3)} {
		select {
		case got := <-seen:
			require.Equal(t, want.ID, got.ID)
			require.Equal(t, want.Position, got.Position)
			require.Equal(t, want.Body, got.Body)
		case <-time.After(5 * time.Second):
			t.Fatal("the event did not arrive")
		}
	}
	stop()
	require.NoError(t, w.Append(t.Context(), []relay.Event{event(4)}))
	require.Empty(t, seen)
}
