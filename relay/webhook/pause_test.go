package webhook_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/webhook"
)

func (s *stage) pause(id string) {
	s.subs.SetActive(id, false)
	s.feed.Announce(relay.Announcement{ID: id, Op: "update", Paused: true})
}

func (s *stage) resume(id string) {
	s.subs.SetActive(id, true)
	s.feed.Announce(relay.Announcement{ID: id, Op: "update", Resumed: true})
}

func (s *stage) bodies(id string) []string {
	var out []string
	for _, r := range s.received(id) {
		out = append(out, r.body)
	}
	return out
}

// held gives no events before it is opened; announcements pass.
type held struct {
	webhook.Feed
	open chan struct{}
}

func (h held) Next(ctx context.Context, limit int) ([]relay.StreamMessage, error) {
	select {
	case <-h.open:
		return h.Feed.Next(ctx, limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var aroundThePause = []string{
	`{"data":{"n":0}}`, `{"data":{"n":1}}`, `{"data":{"n":2}}`, `{"data":{"n":5}}`, `{"data":{"n":6}}`,
}

func TestEventsFromBeforeAPauseWaitForTheResume(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	cfg := s.config()
	h := held{s.feed, make(chan struct{})}
	cfg.Feed = h
	start(t, cfg)
	s.emit(3)
	s.pause("a")
	s.emit(2)
	close(h.open)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "acked")
	require.Equal(t, 3, s.ledger.Waiting("a"))
	require.Zero(t, s.count("a"))
	s.resume("a")
	s.emit(2)
	eventually(t, func() bool { return s.count("a") == 5 && s.ledger.Waiting("a") == 0 }, "what waited and what is new")
	require.ElementsMatch(t, aroundThePause, s.bodies("a"))
}

func TestAResumeAheadOfMatchingCostsNoEvent(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	cfg := s.config()
	h := held{s.feed, make(chan struct{})}
	cfg.Feed = h
	start(t, cfg)
	s.emit(3)
	s.pause("a")
	s.emit(2)
	s.resume("a")
	s.emit(2)
	close(h.open)
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("a") >= 5 }, "acked")
	require.ElementsMatch(t, aroundThePause, s.bodies("a"))
	require.Zero(t, s.ledger.Waiting("a"))
}

func TestABacklogIsMatchedByTheStatusAtEachEventsPlace(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.emit(3)
	s.pause("a")
	s.pause("b")
	s.emit(2)
	s.resume("a")
	s.emit(2)
	start(t, s.config())
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("a") >= 5 }, "acked")
	require.ElementsMatch(t, aroundThePause, s.bodies("a"))
	require.Zero(t, s.count("b"))
	require.Equal(t, 3, s.ledger.Waiting("b"), "b is paused still")
}

func TestARowThatIsLoadedInactiveWantsNothingBeforeItsResume(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.pause("a")
	start(t, s.config())
	s.emit(2)
	s.feed.Announce(relay.Announcement{ID: "a", Op: "update"})
	s.emit(1)
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("b") == 3 }, "acked")
	require.Zero(t, s.ledger.Waiting("a"))
	s.resume("a")
	s.emit(1)
	eventually(t, func() bool { return s.count("a") == 1 }, "the one after the resume")
	require.Equal(t, []string{`{"data":{"n":3}}`}, s.bodies("a"))
}

func TestARowReadPausedBeforeThatIsAnnouncedKeepsWhatCameBefore(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	start(t, s.config())
	s.subs.SetActive("a", false)
	s.feed.Announce(relay.Announcement{ID: "a", Op: "update"}) // of an earlier change
	s.emit(1)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "acked")
	require.Equal(t, 1, s.ledger.Waiting("a"))
	s.pause("a")
	s.emit(1)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "acked")
	require.Equal(t, 1, s.ledger.Waiting("a"))
}

// skipped are the bodies of the events that the log says met an inactive subscription.
func (s *stage) skipped(t *testing.T, id string) []string {
	var out []string
	for _, o := range s.ledger.Log(id) {
		if o.Kind == relay.Skipped {
			require.Equal(t, "inactive: the webhook was not active when the event came", o.Attempt.Error)
			require.Empty(t, o.Attempt.TargetURL, "nobody was asked")
			out = append(out, string(o.Delivery.Body))
		}
	}
	return out
}

func TestEventsThatMeetAPauseAreRecordedAsSkippedOnce(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.emit(1)
	s.pause("a")
	s.emit(2)
	s.resume("a")
	s.emit(1)
	start(t, s.config())
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("a") == 2 && s.count("b") == 4 }, "acked")
	require.ElementsMatch(t, []string{`{"data":{"n":1}}`, `{"data":{"n":2}}`}, s.skipped(t, "a"))
	require.Empty(t, s.skipped(t, "b"))
}

func TestARowThatWasInactiveFromTheStartSkips(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.subs.SetActive("a", false)
	s.emit(2)
	start(t, s.config())
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("b") == 2 }, "acked")
	require.Len(t, s.skipped(t, "a"), 2)
	require.Zero(t, s.ledger.Waiting("a"))
}

func TestSkippedEventsThatComeAgainAreNotRecordedTwice(t *testing.T) {
	s := newStage(t, 100*time.Millisecond)
	s.subscribe(t, "a", "b")
	s.pause("a")
	s.emit(2)
	start(t, s.config())
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("b") == 2 }, "acked")
	s.feed.Crash() // nothing was acked: everything comes again
	s.emit(1)
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("b") == 3 }, "acked")
	require.Len(t, s.skipped(t, "a"), 3)
}

func TestSilentPausesLeaveNothing(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.pause("a")
	s.emit(2)
	cfg := s.config()
	cfg.SilentPauses = true
	start(t, cfg)
	eventually(t, func() bool { return s.feed.Open() == 0 && s.count("b") == 2 }, "acked")
	require.Empty(t, s.ledger.Log("a"))
}
