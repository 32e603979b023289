package relay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

func TestASubscriptionWantsNothingFromBeforeItself(t *testing.T) {
	all, err := filters.Compile([]byte(`{}`))
	require.NoError(t, err)
	born := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	sub := relay.Subscription{EventType: "thing.created", Filter: all, Active: true, CreatedAt: born, Since: 7}
	event := func(committed time.Time) *relay.Event {
		return &relay.Event{Type: "thing.created", Visibility: relay.VisibleToEveryone, CommittedAt: committed, OccurredAt: born.Add(-time.Hour)}
	}
	require.True(t, sub.Wants(event(born), 8))
	require.True(t, sub.Wants(event(born.Add(-time.Hour)), 8), "a clock was set back: the stream's order decides")
	require.False(t, sub.Wants(event(born.Add(time.Hour)), 7), "announced behind it")

	early := sub
	early.Since = 0
	require.True(t, early.Wants(event(born), 8))
	require.True(t, early.Wants(event(born.Add(time.Second)), 8), "an outbox event may tell of an earlier time")
	require.False(t, early.Wants(event(born.Add(-time.Microsecond)), 8), "committed before the row was written")

	broken := sub
	broken.Filter = nil
	require.False(t, broken.Wants(event(born), 8))
}

func TestASubscriptionWantsWhatCameWhileItWasActive(t *testing.T) {
	all, err := filters.Compile([]byte(`{}`))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		since uint64
		gaps  []relay.Gap
		want  []uint64 // of the sequences 1 to 9
	}{
		"never paused":              {0, nil, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		"paused before all of them": {0, []relay.Gap{{}}, nil},
		"paused":                    {0, []relay.Gap{{From: 4}}, []uint64{1, 2, 3, 4}},
		"paused and resumed":        {0, []relay.Gap{{From: 4, To: 7}}, []uint64{1, 2, 3, 4, 7, 8, 9}},
		"resumed":                   {0, []relay.Gap{{To: 7}}, []uint64{7, 8, 9}},
		"twice":                     {0, []relay.Gap{{From: 2, To: 4}, {From: 7}}, []uint64{1, 2, 4, 5, 6, 7}},
		"inserted, then paused":     {2, []relay.Gap{{From: 5, To: 8}}, []uint64{3, 4, 5, 8, 9}},
	} {
		for _, active := range []bool{true, false} {
			s := relay.Subscription{EventType: "thing.created", Filter: all, Active: active, Since: c.since, Gaps: c.gaps}
			var got []uint64
			for seq := uint64(1); seq < 10; seq++ {
				if s.Wants(&relay.Event{Type: "thing.created", Visibility: relay.VisibleToEveryone}, seq) {
					got = append(got, seq)
				}
			}
			require.Equal(t, c.want, got, name)
		}
	}
}
