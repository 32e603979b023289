package natsstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// patience of what is waited for: an audit rests nine times longer than it works.
const patience = time.Minute

// auditLog is an AuditLog in memory.
type auditLog struct {
	mu    sync.Mutex
	audit *relay.Audit
	holes []relay.Hole
	saves int
}

var _ natsstream.AuditLog = (*auditLog)(nil)

func (l *auditLog) LoadAudit(context.Context, string) (*relay.Audit, []relay.Hole, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.audit, slices.Clone(l.holes), nil
}

func (l *auditLog) SaveAudit(_ context.Context, _ string, a relay.Audit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.Marks = slices.Clone(a.Marks)
	l.audit = &a
	l.saves++
	return nil
}

func (l *auditLog) AddHole(_ context.Context, _ string, h relay.Hole) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holes = append(slices.DeleteFunc(l.holes, func(old relay.Hole) bool { return old.Within(&h) }), h)
	return nil
}

func (l *auditLog) NoteRecord(_ context.Context, _ string, h relay.Hole, seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.holes {
		if l.holes[i].Within(&h) && h.Within(&l.holes[i]) {
			l.holes[i].Recorded = seq
		}
	}
	return nil
}

func (l *auditLog) DropHole(_ context.Context, _ string, h relay.Hole) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holes = slices.DeleteFunc(l.holes, func(old relay.Hole) bool { return old.Within(&h) && h.Within(&old) })
	return nil
}

// found returns the holes once there are n of them and all are told.
func (l *auditLog) found(t *testing.T, n int) []relay.Hole {
	t.Helper()
	var holes []relay.Hole
	require.Eventually(t, func() bool {
		_, holes, _ = l.LoadAudit(t.Context(), "relay")
		return len(holes) == n && !slices.ContainsFunc(holes, func(h relay.Hole) bool { return h.Recorded == 0 })
	}, patience, 5*time.Millisecond, "found %v", &holes)
	return holes
}

// walked returns once the chain was followed to a sequence.
func (l *auditLog) walked(t *testing.T, seq uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		audit, _, _ := l.LoadAudit(t.Context(), "relay")
		return audit != nil && audit.Audited.Seq >= seq
	}, patience, 5*time.Millisecond)
}

// audited is a stream of a user's own making, which lets messages be deleted, and what
// audits it.
type audited struct {
	t      *testing.T
	c      *natsstream.Client
	w      *natsstream.Writer
	js     jetstream.JetStream
	log    *auditLog
	mu     sync.Mutex
	place  relay.Position
	told   []relay.Hole
	looks  int
	stop   func()
	logged *logged
}

func newAudited(t *testing.T, url string, js jetstream.JetStream, change func(*jetstream.StreamConfig)) *audited {
	t.Helper()
	cfg := jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>", "relay.control.>"}, Discard: jetstream.DiscardNew}
	if change != nil {
		change(&cfg)
	}
	_, err := js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	out := &logged{}
	c := ensured(t, url, func(cfg *natsstream.Config) { cfg.Logger = out.logger() })
	a := &audited{t: t, c: c, w: ready(t, c), js: js, log: &auditLog{}, logged: out}
	t.Cleanup(func() {
		if a.stop != nil {
			a.stop()
		}
	})
	return a
}

// start audits all the time, until stop.
func (a *audited) start() {
	ctx, cancel := context.WithCancel(context.Background())
	notices, done := make(chan relay.HoleNotice), make(chan error, 2)
	go func() {
		done <- a.c.Audit(ctx, natsstream.AuditConfig{
			Slot: "relay", Log: a.log, Notices: notices, Every: 30 * time.Millisecond,
			OnAudit: func(map[string]int, uint64) { a.mu.Lock(); a.looks++; a.mu.Unlock() },
		})
	}()
	go func() { done <- a.session(ctx, notices) }()
	a.stop = func() {
		a.t.Helper()
		cancel()
		require.NoError(a.t, <-done)
		require.NoError(a.t, <-done)
		a.stop = nil
	}
}

// session puts records into the stream, as a Capture does.
func (a *audited) session(ctx context.Context, notices <-chan relay.HoleNotice) error {
	for {
		select {
		case n := <-notices:
			a.mu.Lock()
			a.told = append(a.told, n.Hole)
			a.place.Index++
			err := a.w.Append(ctx, []relay.Event{a.record(&n.Hole)})
			a.mu.Unlock()
			if err != nil {
				return err
			}
			n.Stored <- a.w.Seq()
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *audited) record(h *relay.Hole) relay.Event {
	body, err := json.Marshal(relay.GapRecord{Reason: h.Reason, After: &relay.GapSide{Seq: h.After.Seq}, Before: &relay.GapSide{Seq: h.Before.Seq}})
	require.NoError(a.t, err)
	return relay.Event{ID: "gap_" + a.place.String(), Type: relay.ControlGap, Position: a.place, Body: body}
}

func (a *audited) append(from, to int) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NoError(a.t, a.w.Append(a.t.Context(), events(from, to)))
	a.place = event(to).Position
}

// lookAgain returns after the auditor looked at all there is now.
func (a *audited) lookAgain() {
	a.t.Helper()
	seen := func() int { a.mu.Lock(); defer a.mu.Unlock(); return a.looks }
	from := seen()
	require.Eventually(a.t, func() bool { return seen() >= from+4 }, patience, 5*time.Millisecond)
}

func (a *audited) stream() jetstream.Stream {
	a.t.Helper()
	s, err := a.js.Stream(a.t.Context(), "EVENTS")
	require.NoError(a.t, err)
	return s
}

func (a *audited) tellings() []relay.Hole {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.told)
}

func TestADeletedMessageIsFoundAndToldOnce(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 10)
	a.start()
	a.log.walked(t, 10)
	a.stop()
	require.NoError(t, a.stream().DeleteMsg(t.Context(), 4))
	require.NoError(t, a.stream().SecureDeleteMsg(t.Context(), 5))
	a.start()
	h := a.log.found(t, 1)[0]
	require.Equal(t, relay.HoleMissing, h.Reason)
	require.Equal(t, []relay.StreamPlace{{Seq: 3, Position: event(3).Position}, {Seq: 6, Position: event(6).Position}}, []relay.StreamPlace{h.After, h.Before})
	require.EqualValues(t, 2, h.Missing)
	require.EqualValues(t, 11, h.Recorded)
	a.lookAgain()
	a.stop()

	a.append(11, 12)
	a.start() // another process
	a.lookAgain()
	a.stop()
	require.Len(t, a.tellings(), 1)
	require.Equal(t, 1, bytes.Count(a.logged.Bytes(), []byte("the stream does not hold what it held")))
	require.Contains(t, a.logged.String(), "2 messages are missing in stream EVENTS between 3 (0/3E8:3:0) and 6 (0/3E8:6:0)")
	require.Contains(t, a.logged.String(), "relay backfill TABLE")

	a.log.mu.Lock()
	a.log.holes[0].Recorded = 0 // killed before it was noted
	a.log.mu.Unlock()
	a.start()
	require.EqualValues(t, 11, a.log.found(t, 1)[0].Recorded, "the record in the stream is recognised")
	a.stop()
	require.Len(t, a.tellings(), 1)
}

func TestAStreamThatExistsCanBeSetToDenyWhatMakesHoles(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 10)
	cfg := a.stream().CachedInfo().Config
	cfg.DenyDelete, cfg.DenyPurge = true, true
	_, err := a.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	require.Error(t, a.stream().DeleteMsg(t.Context(), 4))
	require.Error(t, a.stream().Purge(t.Context()))
}

func TestAHoleThatGrowsIsReportedAnewAndOneThatTheStreamHasPassedIsForgotten(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 10)
	a.start()
	a.log.walked(t, 10)
	require.NoError(t, a.stream().DeleteMsg(t.Context(), 4))
	require.EqualValues(t, 1, a.log.found(t, 1)[0].Missing)
	require.NoError(t, a.stream().DeleteMsg(t.Context(), 5))
	require.Eventually(t, func() bool { return a.log.found(t, 1)[0].Missing == 2 }, patience, 5*time.Millisecond)
	require.NoError(t, a.stream().Purge(t.Context(), jetstream.WithPurgeSequence(8)))
	require.Eventually(t, func() bool { return a.log.found(t, 1)[0].Reason == relay.HolePurged }, patience, 5*time.Millisecond)
}

// TestADamagedFileShowsInTheChain flips a bit of a message that is stored: the server
// leaves it out when it is read, and counts nothing as missing.
func TestADamagedFileShowsInTheChain(t *testing.T) {
	p := natstest.NewProcess(t)
	a := newAudited(t, p.URL, p.JetStream(), nil)
	a.append(1, 100)
	p.Stop()
	files, err := filepath.Glob(filepath.Join(p.StoreDir, "jetstream", "*", "streams", "EVENTS", "msgs", "*.blk"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	content, err := os.ReadFile(files[0])
	require.NoError(t, err)
	at := bytes.Index(content, []byte(`{"n":50}`))
	require.Positive(t, at)
	content[at+5] ^= 1
	require.NoError(t, os.WriteFile(files[0], content, 0o600))
	p.Start()
	info, err := a.stream().Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.State.NumDeleted, "the server does not know")
	require.Eventually(t, a.c.Connected, 10*time.Second, 5*time.Millisecond)
	_, err = a.w.Tail(t.Context())
	require.NoError(t, err)

	a.start()
	h := a.log.found(t, 1)[0]
	require.Equal(t, []uint64{49, 51, 1}, []uint64{h.After.Seq, h.Before.Seq, h.Missing})
	a.lookAgain()
	a.stop()
	require.Len(t, a.tellings(), 1)
}

func TestAPurgeIsReportedWithWhatItTook(t *testing.T) {
	for name, age := range map[string]time.Duration{"kept for ever": 0, "kept for a day": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := natstest.New(t)
			a := newAudited(t, s.URL, s.JetStream(), func(c *jetstream.StreamConfig) { c.MaxAge = age })
			a.append(1, 10)
			a.start()
			a.log.walked(t, 10)
			require.NoError(t, a.stream().Purge(t.Context(), jetstream.WithPurgeSequence(4)))
			h := a.log.found(t, 1)[0]
			require.Equal(t, []any{relay.HolePurged, uint64(0), uint64(4), uint64(3), event(4).Position, event(1).Position.CommitLSN, event(3).Position.CommitLSN},
				[]any{h.Reason, h.After.Seq, h.Before.Seq, h.Missing, h.Before.Position, h.From, h.To})
			a.stop()

			a.append(11, 12)
			require.NoError(t, a.stream().Purge(t.Context())) // while nobody looks
			a.start()
			all := a.log.found(t, 2)
			require.Equal(t, []uint64{3, 14}, []uint64{all[1].After.Seq, all[1].Before.Seq})
			a.lookAgain()
			a.stop()
			require.Len(t, a.tellings(), 2)
		})
	}
}

func TestMessagesThatLeaveByAgeAreNoHole(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), func(c *jetstream.StreamConfig) { c.MaxAge = time.Second })
	a.start()
	for n := 1; n <= 200; n += 10 { // some leave while others come
		a.append(n, n+9)
		a.lookAgain()
	}
	require.Eventually(t, func() bool {
		info, err := a.stream().Info(t.Context())
		return err == nil && info.State.Msgs == 0
	}, patience, 5*time.Millisecond)
	a.lookAgain()
	a.stop()
	require.Empty(t, a.tellings())
	require.Empty(t, a.log.holes)
	require.NotContains(t, a.logged.String(), "could not be audited")
}

func TestADeletedMessageOfSomebodyElseIsNoHole(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 5)
	_, err := a.js.Publish(t.Context(), "events.foreign.thing", nil)
	require.NoError(t, err)
	_, err = a.w.Tail(t.Context())
	require.NoError(t, err)
	a.append(6, 8)
	a.start()
	a.log.walked(t, 9)
	require.NoError(t, a.stream().DeleteMsg(t.Context(), 6))
	a.lookAgain()
	a.stop()
	a.log.mu.Lock()
	a.log.audit.Audited = relay.StreamPlace{} // so that it is walked by as well
	a.log.mu.Unlock()
	a.start()
	a.log.walked(t, 9)
	a.lookAgain()
	a.stop()
	require.Empty(t, a.tellings())
}

// TestAMessageOutOfOrderIsReported stores one that names another predecessor, as one of
// a late writer would that got between the messages of another.
func TestAMessageOutOfOrderIsReported(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 5)
	late := nats.NewMsg("events.thing.updated")
	late.Header.Set("Relay-Pos", event(7).Position.String())
	late.Header.Set("Relay-Prev", event(6).Position.String())
	_, err := a.js.PublishMsg(t.Context(), late)
	require.NoError(t, err)
	_, err = a.w.Tail(t.Context())
	require.NoError(t, err)
	a.start()
	h := a.log.found(t, 1)[0]
	require.Equal(t, []any{relay.HoleOrder, uint64(5), uint64(6), uint64(0)}, []any{h.Reason, h.After.Seq, h.Before.Seq, h.Missing})
	a.lookAgain()
	a.stop()
	require.Len(t, a.tellings(), 1)
}

func TestManyHolesAreToldAsAFew(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 400)
	for seq := uint64(2); seq < 400; seq += 2 {
		require.NoError(t, a.stream().DeleteMsg(t.Context(), seq))
	}
	a.start()
	all := a.log.found(t, 50)
	rest := all[49]
	require.Equal(t, []any{150, uint64(150), uint64(99), uint64(399)}, []any{rest.Parts, rest.Missing, rest.After.Seq, rest.Before.Seq})
	a.lookAgain()
	a.stop()
	require.Len(t, a.tellings(), 50)
}

// TestMoreDeletionsThanCanBeAskedForAreFoundByAWalk purges one of two event types.
func TestMoreDeletionsThanCanBeAskedForAreFoundByAWalk(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	all := events(1, 22_001)
	for i := range all {
		if i%2 == 1 {
			all[i].Type = "thing.created"
		}
	}
	a.place = all[len(all)-1].Position
	require.NoError(t, a.w.Append(t.Context(), all))
	a.start()
	a.log.walked(t, 22_001)
	require.NoError(t, a.stream().Purge(t.Context(), jetstream.WithPurgeSubject("events.thing.created")))
	info, err := a.stream().Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, 11_000, info.State.NumDeleted)
	missing := 0
	for _, h := range a.log.found(t, 50) {
		missing += int(h.Missing)
	}
	require.Equal(t, 11_000, missing)
	a.lookAgain()
	a.stop()
	require.Len(t, a.tellings(), 50)
}

// TestARecordThatWentWithALostEndIsToldAgain cuts the stream behind the hole.
func TestARecordThatWentWithALostEndIsToldAgain(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 10)
	require.NoError(t, a.stream().DeleteMsg(t.Context(), 4))
	a.start()
	require.EqualValues(t, 11, a.log.found(t, 1)[0].Recorded)
	a.stop()
	require.NoError(t, a.stream().DeleteMsg(t.Context(), 11))
	a.append(11, 11)
	a.start()
	require.Eventually(t, func() bool { return len(a.tellings()) == 3 }, patience, 5*time.Millisecond, "of itself, and of what it told")
	a.stop()
}

func TestAnIdleStreamIsNotWrittenAbout(t *testing.T) {
	s := natstest.New(t)
	a := newAudited(t, s.URL, s.JetStream(), nil)
	a.append(1, 10)
	a.start()
	a.log.walked(t, 10)
	a.lookAgain()
	saves := func() int { a.log.mu.Lock(); defer a.log.mu.Unlock(); return a.log.saves }
	// A walk along the whole stream is begun, and noted, after 24 others.
	before := saves()
	for range 10 {
		a.lookAgain()
	}
	require.LessOrEqual(t, saves()-before, 4)
	a.stop()
}
