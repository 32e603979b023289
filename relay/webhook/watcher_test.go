package webhook

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestAnnouncementsOpenAndCloseTheGapsOfARow(t *testing.T) {
	paused, resumed := relay.Announcement{ID: "a", Op: "update", Paused: true}, relay.Announcement{ID: "a", Op: "update", Resumed: true}
	fresh := relay.Announcement{ID: "a", Op: "insert", Fresh: true}
	asleep := relay.Announcement{ID: "a", Op: "insert", Fresh: true, Paused: true}
	retyped := relay.Announcement{ID: "a", Op: "update", Fresh: true}
	for name, c := range map[string]struct {
		before []relay.Gap
		said   []announced
		want   []relay.Gap
	}{
		"pause":                           {nil, []announced{{5, paused}}, []relay.Gap{{From: 5}}},
		"pause and resume":                {nil, []announced{{5, paused}, {8, resumed}}, []relay.Gap{{From: 5, To: 8}}},
		"resume of a row loaded active":   {nil, []announced{{8, resumed}}, []relay.Gap{{To: 8}}},
		"pause of a row loaded inactive":  {[]relay.Gap{{}}, []announced{{5, paused}}, []relay.Gap{{From: 5}}},
		"resume of a row loaded inactive": {[]relay.Gap{{}}, []announced{{5, resumed}}, []relay.Gap{{To: 5}}},
		"a pause within a pause":          {[]relay.Gap{{From: 5}}, []announced{{6, paused}}, []relay.Gap{{From: 5}}},
		"a resume after a resume":         {[]relay.Gap{{From: 5, To: 6}}, []announced{{8, resumed}}, []relay.Gap{{From: 5, To: 6}}},
		"insertion of a paused row":       {[]relay.Gap{{}}, []announced{{5, asleep}}, []relay.Gap{{From: 5}}},
		"insertion":                       {[]relay.Gap{{}}, []announced{{5, fresh}}, nil},
		"other type in a pause":           {[]relay.Gap{{From: 3}}, []announced{{5, retyped}}, []relay.Gap{{From: 3}}},
	} {
		w := newWatcher(nil, nil, newDirectory(false), nil, nil)
		if c.before != nil {
			w.gaps["a"] = c.before
		}
		was := append([]relay.Gap(nil), c.before...)
		w.note(c.said)
		require.Equal(t, c.want, w.gaps["a"], name)
		require.Equal(t, was, append([]relay.Gap(nil), c.before...), "readers have the old list")
	}
}

func TestAStatusThatWasReadDoesNotOverruleALaterAnnouncement(t *testing.T) {
	for name, c := range map[string]struct {
		before []relay.Gap
		since  uint64
		change func(w *watcher)
	}{
		"read paused, inserted later":        {nil, 7, func(w *watcher) { w.open("a", 5) }},
		"read paused, resumed later":         {[]relay.Gap{{From: 2, To: 7}}, 0, func(w *watcher) { w.open("a", 5) }},
		"read paused for ever, was resumed":  {[]relay.Gap{{To: 7}}, 0, func(w *watcher) { w.open("a", 0) }},
		"read paused for ever, paused later": {[]relay.Gap{{From: 7}}, 0, func(w *watcher) { w.open("a", 0) }},
		"read active, paused later":          {[]relay.Gap{{From: 7}}, 0, func(w *watcher) { w.close("a", 5) }},
	} {
		w := newWatcher(nil, nil, newDirectory(false), nil, nil)
		w.gaps["a"], w.since["a"] = c.before, c.since
		c.change(w)
		require.Equal(t, c.before, w.gaps["a"], name)
	}
}

func TestTheGapsOfARowAreBounded(t *testing.T) {
	w := newWatcher(nil, nil, newDirectory(false), nil, nil)
	for seq := uint64(1); seq < 100; seq += 2 {
		w.note([]announced{{seq, relay.Announcement{ID: "a", Paused: true}}, {seq + 1, relay.Announcement{ID: "a", Resumed: true}}})
	}
	require.Len(t, w.gaps["a"], maxGaps)
	require.Equal(t, relay.Gap{From: 99, To: 100}, w.gaps["a"][maxGaps-1])
}
