package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests do not run beside others: they measure the second that the contract
// gives a changed subscription.

// subject is a stack in which events are raised one after the other.
type subject struct {
	*stack
	p *process
	n int
}

// raise commits one thing and returns its event's name.
func (s *subject) raise(ns string) string {
	s.t.Helper()
	s.n++
	s.db.Exec(`insert into things (ns, id, type, content) values ($1, $2, 'Skill', $3)`, ns, fmt.Sprint(s.n), s.canary)
	return fmt.Sprintf("thing.created %s/%d", ns, s.n)
}

// arrives demands that the endpoint's newest delivery is the event, in time.
func (s *subject) arrives(e *endpoint, event string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		got := e.received()
		return len(got) > 0 && got[len(got)-1].Event.name() == event
	}, promptly, tick, "%s does not arrive within %s", event, promptly)
}

func TestANewSubscriptionWorksAtOnceAndGetsNothingEarlier(t *testing.T) {
	s := newStack(t, options{})
	early := s.subscribe(hook{event: "thing.created"})
	with := &subject{stack: s, p: s.start()}
	with.arrives(early, with.raise("n"))

	for range 5 {
		before := with.raise("n")
		late := s.subscribe(hook{event: "thing.created"})
		after := with.raise("n")
		with.arrives(late, after)
		require.Equal(t, []string{after}, late.names(), "not %s, which was committed before the subscription", before)
	}

	// In one transaction, rows before the subscription are before it, rows behind it
	// are not.
	e := s.receiver.endpoint("")
	s.db.Exec(fmt.Sprintf(`
		begin;
		insert into things (ns, id, type) values ('n', 'before', 'Skill');
		insert into zapier_webhooks (user_id, target_url, event_type) values ('u1', '%s', 'thing.created');
		insert into things (ns, id, type) values ('n', 'behind', 'Skill');
		commit`, e.url))
	s.settle(with.p)
	require.Equal(t, []string{"thing.created n/behind"}, e.names())
	with.p.stop()
}

func TestAnEditedPausedOrDeletedSubscriptionIsEffectiveAtOnce(t *testing.T) {
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created", filter: `{"ns": "a"}`})
	with := &subject{stack: s, p: s.start()}
	with.arrives(e, with.raise("a"))
	update := func(set string, args ...any) {
		s.db.Exec(`update zapier_webhooks set `+set+` where id = $1`, append([]any{e.id}, args...)...)
	}

	update(`filters = '{"ns": "b"}'`)
	with.raise("a")
	b := with.raise("b")
	with.arrives(e, b)
	require.Len(t, e.requests(), 2)

	moved := s.receiver.endpoint(e.secret)
	update(`target_url = $2`, moved.url)
	b = with.raise("b")
	with.arrives(moved, b)
	require.Len(t, e.requests(), 2)

	secret := s.secret()
	moved.expectSecret(secret)
	update(`signing_secret = $2`, secret)
	with.arrives(moved, with.raise("b"))

	update(`event_type = 'thing.updated', filters = '{}'`)
	with.raise("b")
	s.db.Exec(`update things set code = 'x' where ns = 'a' and id = '1'`)
	with.arrives(moved, "thing.updated a/1")
	update(`event_type = 'thing.created'`)
	with.arrives(moved, with.raise("c"))
	require.Len(t, moved.requests(), 4)

	update(`status = 'inactive'`)
	with.raise("c") // committed while it is paused: never delivered
	s.settle(with.p)
	require.Len(t, moved.requests(), 4)
	update(`status = 'active'`)
	with.arrives(moved, with.raise("c"))
	require.Len(t, moved.requests(), 5)

	s.db.Exec(`delete from zapier_webhooks where id = $1`, e.id)
	with.raise("c")
	s.settle(with.p)
	require.Len(t, moved.requests(), 5)
	with.p.stop()
}

func TestWaitingRetriesFollowTheirSubscription(t *testing.T) {
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "300ms"
	failing := func(delivery) answer { return answer{status: 503} }
	retries := 100
	deleted, paused, moved := s.subscribe(hook{event: "thing.created", retries: &retries}),
		s.subscribe(hook{event: "thing.created", retries: &retries}), s.subscribe(hook{event: "thing.created", retries: &retries})
	for _, e := range []*endpoint{deleted, paused, moved} {
		e.answers(failing)
	}
	with := &subject{stack: s, p: s.start()}
	event := with.raise("n")
	for _, e := range []*endpoint{deleted, paused, moved} {
		e.await(2)
	}
	target := s.receiver.endpoint(moved.secret)
	s.db.Exec(`delete from zapier_webhooks where id = $1`, deleted.id)
	s.db.Exec(`update zapier_webhooks set status = 'inactive' where id = $1`, paused.id)
	s.db.Exec(`update zapier_webhooks set target_url = $2 where id = $1`, moved.id, target.url)
	committed := time.Now()

	got := target.await(1)[0]
	require.Equal(t, event, got.Event.name())
	require.Equal(t, moved.requests()[0].ID, got.ID)
	require.Greater(t, got.Attempt, 2)

	// Several intervals of the schedule later still nobody has asked the old ones.
	marker := with.raise("m")
	target.answers(nil)
	with.arrives(target, marker)
	require.Eventually(t, func() bool { return time.Since(committed) > 3*promptly }, 5*promptly, tick)
	for _, e := range []*endpoint{deleted, paused, moved} {
		for _, d := range e.requests() {
			require.Less(t, d.At.Sub(committed), promptly, "a request long after the commit")
		}
	}
	with.p.stop()
}
