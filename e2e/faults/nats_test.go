//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/internal/faultproxy"
	"github.com/dot-do/relay/internal/pgtest"
)

// TestAnOutageLongerThanTheDuplicateWindowDoublesNothing loses acknowledgements of
// stored messages and stays away until NATS has forgotten their ids.
func TestAnOutageLongerThanTheDuplicateWindowDoublesNothing(t *testing.T) {
	t.Parallel()
	const window = 2 * time.Second
	s := newStack(t, options{natsNet: true})
	s.makeStream(func(c *jetstream.StreamConfig) { c.Duplicates = window })
	p := s.start()
	load := s.startLoad(2, 10*time.Millisecond)
	load.await(10)
	before := s.length()
	s.natsNet.Silence(faultproxy.Down) // stored, and nobody hears of it
	s.eventually(arrivesWithin, func() bool { return s.length() > before }, "nothing is stored without an answer")
	s.natsNet.Refuse()
	pause(5 * window)
	s.natsNet.Heal()
	p.awaitState(arrivesWithin, "streaming")
	load.await(10)
	load.check()
	p.stop()
}

func TestAMessageOfThePipelineThatIsLostIsSentAgainInOrder(t *testing.T) {
	t.Parallel()
	for batches, says := range map[string]string{"fast": "lost a message on the way", "atomic": "batch is incomplete", "off": "lost its end, or a message on the way"} {
		t.Run(batches, func(t *testing.T) {
			t.Parallel()
			lostOnTheWay(t, batches, says)
		})
	}
}

func lostOnTheWay(t *testing.T, batches, says string) {
	t.Helper()
	s := newStack(t, options{})
	s.env["RELAY_NATS_BATCHES"] = batches
	s.start().stop()
	s.db.Exec(`insert into things (ns, id, type, content) select 'big', i, 'Skill', $1 from generate_series(1, 1500) i`, s.canary)
	p := s.launch("RELAY_FAILPOINTS=" + failpoint.Lost + "=drop@700")
	require.Less(t, s.settleWithin(arrivesWithin), 9*time.Second, "without waiting for an answer that cannot come")
	want := make([]string, 1500)
	for i := range want {
		want[i] = fmt.Sprintf("thing.created big/%d", i+1)
	}
	requireSame(s, want, names(s.read(), "big"))
	require.Contains(t, p.log(), says)
	require.InDelta(t, 1, p.metric("relay_session_restarts_total"), 0)
	p.stop()

	// With nothing behind it that could be refused.
	p = s.launch("RELAY_FAILPOINTS=" + failpoint.Lost + "=drop@1")
	s.insert("last")
	require.Less(t, s.settleWithin(arrivesWithin), 9*time.Second, "without waiting for an answer that cannot come")
	p.stop()
}

// resumesWithin is from the moment on at which the server answers again.
const resumesWithin = 4 * time.Second

// TestPublishingResumesSoonAfterAnOutageOfNATS is as quick after a long outage as
// after a short one.
func TestPublishingResumesSoonAfterAnOutageOfNATS(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insert("before")
	s.settle()
	for i, outage := range []time.Duration{time.Second, 12 * time.Second} {
		s.nats.Kill()
		s.insert(fmt.Sprintf("meanwhile-%d", i))
		p.awaitState(arrivesWithin, "degraded")
		pause(outage)
		s.nats.Start()
		took := s.settleWithin(arrivesWithin)
		t.Logf("away for %s, publishing again after %s", outage, took.Round(time.Millisecond))
		require.Less(t, took, resumesWithin)
	}
	require.NotContains(t, p.log(), "buffer", "the log says that NATS is away in words of the operator")
	require.Equal(t, []string{"thing.created n/before", "thing.created n/meanwhile-0", "thing.created n/meanwhile-1"}, names(s.read(), "n"))
	p.stop()
}

// TestASlowNATSIsWaitedForInBoundedMemoryWhilePostgresHearsFromUs lets a backlog of
// some thirty megabytes meet a thin line.
func TestASlowNATSIsWaitedForInBoundedMemoryWhilePostgresHearsFromUs(t *testing.T) {
	t.Parallel()
	const rows = 15_000
	s := newStack(t, options{natsNet: true, settings: map[string]string{"wal_sender_timeout": "3s"}})
	p := s.start()
	s.insert("first")
	s.settle()
	sender := func() int {
		return pgtest.One[int](s.db, `select coalesce(max(active_pid), 0) from pg_replication_slots where slot_name = $1`, s.env["RELAY_SLOT"])
	}
	pid := sender()
	s.natsNet.Slow(500*time.Millisecond, 64<<10)
	s.db.Exec(`insert into things (ns, id, type, content) select 'big', i, 'Skill', $1 || repeat('x', 2000) from generate_series(1, $2::int) i`, s.canary, rows)
	pause(12 * time.Second) // four sender timeouts
	require.Equal(t, pid, sender(), "the walsender is the same: it heard from the relay in time")
	require.Less(t, s.length(), uint64(rows), "the line is thin")
	require.Less(t, p.peak(), 320, "MiB, of a binary with the race detector")
	s.natsNet.Heal()
	s.settle()
	require.Len(t, names(s.read(), "big"), rows)
	t.Logf("peak memory %d MiB", p.peak())
	p.stop()
}

func TestAFullStreamHoldsTheSlotAndHeals(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.makeStream(func(c *jetstream.StreamConfig) { c.MaxBytes = 300 << 10 })
	p := s.start()
	for i := range 20 {
		s.db.Exec(`insert into things (ns, id, type, content) select 'big', $2::int * 50 + i, 'Skill', $1 || repeat('x', 500) from generate_series(1, 50) i`, s.canary, i)
	}
	r := p.awaitState(arrivesWithin, "degraded")
	require.Contains(t, r.Reason, "maximum bytes exceeded")
	full, written := s.length(), pgtest.One[string](s.db, `select pg_current_wal_lsn()::text`)
	require.Less(t, full, uint64(1000))
	require.True(t, pgtest.One[bool](s.db, `select $1::pg_lsn < $2::pg_lsn`, s.confirmed(), written), "what is not stored is not confirmed")
	s.makeStream(func(c *jetstream.StreamConfig) { c.MaxBytes = 100 << 20 })
	s.settle()
	require.Len(t, names(s.read(), "big"), 1000)
	p.stop()
}

// gap is a record on relay.control.gap, as reason and sequences.
func gap(t testing.TB, body []byte) string {
	var record struct {
		Reason        string
		After, Before struct{ Seq uint64 }
	}
	require.NoError(t, json.Unmarshal(body, &record))
	return fmt.Sprintf("%s %d-%d", record.Reason, record.After.Seq, record.Before.Seq)
}

// awaitGap waits until the last record is this one.
func awaitGap(s *stack, want string) {
	s.t.Helper()
	s.eventually(arrivesWithin, func() bool {
		last, err := s.stream().GetLastMsgForSubject(s.ask(), "relay.control.gap")
		return err == nil && gap(s.t, last.Data) == want
	}, "no record "+want)
}

// gaps lists all records.
func gaps(s *stack) []string {
	s.t.Helper()
	out := []string{}
	for _, m := range s.readAny() {
		if m.subject == "relay.control.gap" {
			out = append(out, gap(s.t, m.body))
		}
	}
	return out
}

// doctor runs relay doctor, which may find errors, and returns what it says of one area.
func doctor(s *stack, area string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), os.Getenv(binaryEnv), "doctor", "--json")
	cmd.Dir, cmd.Env = s.dir, s.environ()
	stdout, _ := cmd.Output()
	var findings []struct{ Severity, Area, Finding, Remedy string }
	require.NoError(s.t, json.Unmarshal(stdout, &findings), "%s", stdout)
	var out strings.Builder
	for _, f := range findings {
		if f.Area == area {
			fmt.Fprintf(&out, "%s: %s -> %s\n", f.Severity, f.Finding, f.Remedy)
		}
	}
	return out.String()
}

// TestAPurgedStreamIsReportedAndGoesOnBehindWhatItHeld purges the stream under a
// running relay and under a stopped one.
func TestAPurgedStreamIsReportedAndGoesOnBehindWhatItHeld(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_AUDIT_EVERY"] = "1s"
	s.makeStream(nil)
	p := s.start()
	s.insert("1", "2")
	s.settle()
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_stream_audited_sequence") == 3 }, "the stream is not audited")
	require.NoError(t, s.stream().Purge(s.ask()))
	awaitGap(s, "stream_purged 0-4")
	require.Contains(t, p.log(), "3 messages are gone from the front of stream EVENTS before their time")
	require.InDelta(t, 1, p.metric("relay_stream_holes", `reason="stream_purged"`), 0)
	s.insert("3")
	s.settle()
	require.Equal(t, []string{"thing.created n/3"}, names(s.readAny(), "n"))
	p.stop()
	before := s.length()
	require.NoError(t, s.stream().Purge(s.ask()))
	p = s.start()
	s.insert("4")
	s.settle()
	require.Equal(t, []string{"thing.created n/4"}, names(s.readAny(), "n"), "nothing twice")
	awaitGap(s, fmt.Sprintf("stream_purged 3-%d", before+1)) // while nobody looked
	require.Regexp(t, `warning: .* gone from the front of stream EVENTS .* subscribers are told by message 4 on relay.control.gap -> relay backfill TABLE`, doctor(s, "stream"))
	s.read()
	p.stop()
}

// TestARevokedCredentialIsWaitedOutAndNeverPrinted takes the relay's user away from
// NATS and gives it back.
func TestARevokedCredentialIsWaitedOutAndNeverPrinted(t *testing.T) {
	t.Parallel()
	users := func(password string) string {
		return "no_auth_user: anybody\nauthorization { users = [{user: anybody, password: anybody}, {user: relay, password: " + password + "}] }\n"
	}
	const password = "s3cretOfTheRelay"
	s := newStack(t, options{relayUser: "relay:" + password, nats: []string{users(password)}})
	p := s.start()
	s.insert("1")
	s.settle()
	held := s.confirmed()
	s.nats.Configure(users("another"))
	s.nats.Restart()
	s.insert("2")
	s.eventually(arrivesWithin, func() bool {
		r, _ := p.readyz()
		return r.State == "degraded" && strings.Contains(strings.ToLower(r.Parts["nats"].Reason), "authorization")
	}, "/readyz does not say what is wrong")
	pause(3 * time.Second)
	require.True(t, p.alive(), "a credential may come back")
	written := pgtest.One[string](s.db, `select pg_current_wal_lsn()::text`)
	require.True(t, pgtest.One[bool](s.db, `select $1::pg_lsn < $2::pg_lsn`, s.confirmed(), written), "nothing new is confirmed: %s, before %s", s.confirmed(), held)
	s.nats.Configure(users(password))
	s.nats.Restart()
	p.awaitState(arrivesWithin, "streaming")
	s.settle()
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.read(), "n"))
	p.stop()
}

// TestAHoleInTheStreamIsToldAndReported deletes a message in the middle, kills the
// relay when it has told, and lets a standby take over.
func TestAHoleInTheStreamIsToldAndReported(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_AUDIT_EVERY"] = "1s"
	s.makeStream(nil)
	p := s.start()
	s.insert("1", "2", "3")
	s.settle()
	whole := s.read()
	require.NoError(t, s.stream().DeleteMsg(s.ask(), whole[1].seq))
	awaitGap(s, "stream_hole 1-3")
	p.kill()
	s.insert("4")
	p = s.start()
	s.insert("5")
	s.settle()
	all := s.readAny()
	require.Equal(t, []string{"thing.created n/1", "thing.created n/3", "thing.created n/4", "thing.created n/5"}, names(all, "n"))
	s.checkOrder(all)
	require.Equal(t, whole[1].header.Get("Relay-Pos"), all[1].header.Get("Relay-Prev"), "readers can tell as well")
	found := fmt.Sprintf("1 message is missing in stream EVENTS between 1 (%s) and 3 (%s)", whole[0].header.Get("Relay-Pos"), whole[2].header.Get("Relay-Pos"))
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_stream_holes", `reason="stream_hole"`) == 1 }, "the metric does not tell")
	require.NotContains(t, p.log(), "does not hold what it held", "the alarm is raised once")
	said := doctor(s, "stream")
	require.Contains(t, said, "error: "+found)
	require.Contains(t, said, "subscribers are told by message 5 on relay.control.gap -> relay backfill TABLE")
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_stream_audited_sequence") >= float64(all[len(all)-1].seq) }, "the walk does not go on behind the hole")
	require.Equal(t, []string{"stream_hole 1-3"}, gaps(s), "told once")
	s.db.Exec(`update relay_stream_holes set settled_at = now()`)
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_stream_holes", `reason="stream_hole"`) == 0 }, "what is settled is shown")
	require.NotContains(t, doctor(s, "stream"), "missing")
	p.awaitState(readyWithin, "streaming")
	p.stop()
}
