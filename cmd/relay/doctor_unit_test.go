package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgsource"
)

func TestOldMinorReleasesAreKnownToLoseChanges(t *testing.T) {
	for version, want := range map[int]string{
		130020: "13.21", 130021: "", 140017: "14.18", 140018: "", 150012: "15.13", 150013: "", 160000: "16.9", 160008: "16.9", 160009: "",
		170004: "17.5", 170005: "", 170100: "", 180000: "", 190000: "",
	} {
		bad, upgrade := losesChanges(version)
		require.Equal(t, want != "", bad, version)
		require.Equal(t, want, upgrade, version)
	}
}

func TestVersionsAreComparedByTheirNumbers(t *testing.T) {
	for version, older := range map[string]bool{
		"2.9.10": true, "2.10.22": true, "2.10.23": false, "2.10.23-RC.1": false, "2.11.0": false, "2.12": false, "3.0.0": false, "2.10": true, "": false, "dev": false,
	} {
		require.Equal(t, older, olderThan(version, "2.10.23"), version)
	}
}

// sound is a server about which there is nothing to say.
func sound() pgsource.Facts {
	return pgsource.Facts{
		Version: 170005, WALLevel: "logical", Encoding: "UTF8", Slots: 1, MaxSlots: 10, Senders: 1, MaxSenders: 10,
		SenderTimeout: time.Minute, SlotLimit: 50 << 30, Role: "relay", Replication: true, SeesAll: true,
		Slot:   &pgsource.SlotFacts{Active: true, Status: "reserved", Safe: 50 << 30},
		Tables: []pgsource.TableFacts{{Name: "public.things", OldRows: true, Identity: "f", Published: true, Large: []string{"doc"}}},
	}
}

// said lists what is not in order, as "severity area: finding".
func said(found []finding) []string {
	var out []string
	for _, f := range found {
		if f.Severity != sevOK {
			out = append(out, fmt.Sprintf("%s %s: %s", f.Severity, f.Area, f.Finding))
		}
	}
	return out
}

func TestTheDoctorJudgesTheServer(t *testing.T) {
	f := sound()
	require.Empty(t, said(judgePostgres(&f, config.Default().Source)))
	for name, tc := range map[string]struct {
		change func(*pgsource.Facts)
		cfg    func(*config.Source)
		want   string // empty: nothing to say
	}{
		"old minor":               {change: func(f *pgsource.Facts) { f.Version = 170004 }, want: "error postgres: PostgreSQL 17.4 can leave changes out"},
		"ascii":                   {change: func(f *pgsource.Facts) { f.Encoding = "SQL_ASCII" }, want: "warning postgres: the database's encoding"},
		"no sender left":          {change: func(f *pgsource.Facts) { f.Senders, f.Slot.Active = 10, false }, want: "error postgres: all 10 WAL senders are in use: the relay cannot connect"},
		"our sender is the last":  {change: func(f *pgsource.Facts) { f.Senders = 10 }, want: "warning postgres: all 10 WAL senders are in use: a relay that lost"},
		"no sender timeout":       {change: func(f *pgsource.Facts) { f.SenderTimeout = 0 }, want: "warning postgres: wal_sender_timeout is 0"},
		"long sender timeout":     {change: func(f *pgsource.Facts) { f.SenderTimeout = time.Hour }, want: "note postgres: wal_sender_timeout is 1h0m0s"},
		"no limit":                {change: func(f *pgsource.Facts) { f.SlotLimit = -1 }, want: "warning wal: max_slot_wal_keep_size is -1"},
		"no limit, but a policy":  {change: func(f *pgsource.Facts) { f.SlotLimit = -1 }, cfg: func(c *config.Source) { c.WALPolicy = config.PolicyDropSlot }},
		"limit under the budget":  {change: func(f *pgsource.Facts) { f.SlotLimit = 1 << 30 }, want: "note wal: the slot is lost when it keeps more than 1GB"},
		"near the budget":         {change: func(f *pgsource.Facts) { f.Slot.Retained = 7 << 30 }, want: "warning wal: the slot keeps 7168 MB of log, 70 % of the 10GB"},
		"no budget":               {change: func(f *pgsource.Facts) { f.Slot.Retained = 30 << 30 }, cfg: func(c *config.Source) { c.WALBudget = 0 }},
		"idle timeout":            {change: func(f *pgsource.Facts) { f.IdleTimeout = time.Hour }, want: "warning wal: idle_replication_slot_timeout is 1h0m0s"},
		"long idle timeout":       {change: func(f *pgsource.Facts) { f.IdleTimeout = 240 * time.Hour }, want: "note wal: idle_replication_slot_timeout is 240h0m0s"},
		"standbys":                {change: func(f *pgsource.Facts) { f.Standbys = 1 }, want: "warning slot: the server has standbys, and the slot is not made to survive"},
		"standbys, failover slot": {change: func(f *pgsource.Facts) { f.Standbys, f.Slot.Failover = 1, true }},
		"standbys before 17":      {change: func(f *pgsource.Facts) { f.Standbys, f.Version = 1, 160009 }, want: "note slot: the server has standbys, and before PostgreSQL 17"},
		"superuser":               {change: func(f *pgsource.Facts) { f.Superuser = true }, want: "note postgres: role relay is a superuser"},
		"blind":                   {change: func(f *pgsource.Facts) { f.SeesAll = false }, want: "note postgres: role relay does not see other roles' transactions"},
		"open transaction": {change: func(f *pgsource.Facts) {
			f.Oldest = &pgsource.OpenTransaction{PID: 7, Database: "app", Age: 3 * time.Hour}
		}, want: "warning postgres: the server keeps all log since the begin of the transaction of server process 7 in database \"app\", open for 3h0m0s"},
		"key only":   {change: func(f *pgsource.Facts) { f.Tables[0].Identity, f.Tables[0].Key, f.Tables[0].Large = "d", true, nil }, want: "warning identity: public.things logs only the key"},
		"no key":     {change: func(f *pgsource.Facts) { f.Tables[0].Identity = "d" }, want: "error identity: public.things is published without a replica identity"},
		"no index":   {change: func(f *pgsource.Facts) { f.Tables[0].Identity = "i" }, want: "error identity: public.things is published without a replica identity"},
		"nothing":    {change: func(f *pgsource.Facts) { f.Tables[0].Identity, f.Tables[0].Key = "n", true }, want: "error identity: public.things is published without a replica identity"},
		"not yet":    {change: func(f *pgsource.Facts) { f.Tables[0].Identity, f.Tables[0].Published = "n", false }},
		"row filter": {change: func(f *pgsource.Facts) { f.Tables[0].Filtered = true }, want: "warning publication: public.things is published with a row filter"},
		"column list": {
			change: func(f *pgsource.Facts) { f.Tables[0].Unlisted = []string{"a", "b"} },
			want:   "warning publication: public.things is published without a, b",
		},
		"generated": {change: func(f *pgsource.Facts) { f.Tables[0].Generated = []string{"total"} }, want: "note publication: public.things: generated columns are not in the log: total"},
		"extra":     {change: func(f *pgsource.Facts) { f.Extra = strings.Split("abcdefghij", "") }, want: "note publication: 10 published tables have no mapping: a, b, c, d, e, f, g, h and 2 more"},
	} {
		t.Run(name, func(t *testing.T) {
			f, cfg := sound(), config.Default().Source
			tc.change(&f)
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			got := said(judgePostgres(&f, cfg))
			if tc.want == "" {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Contains(t, got[0], tc.want)
		})
	}
}

func TestTheDoctorJudgesNATS(t *testing.T) {
	fit := func() natsstream.Facts {
		return natsstream.Facts{Version: "2.12.3", MaxPayload: 1 << 20, StoreLimit: -1, Stream: &natsstream.StreamFacts{
			MaxAge: 7 * 24 * time.Hour, MaxBytes: -1, Replicas: 1, DenyDelete: true, DenyPurge: true,
		}}
	}
	for name, tc := range map[string]struct {
		change  func(*natsstream.Facts)
		batches string
		want    string
	}{
		"fit":                  {change: func(*natsstream.Facts) {}},
		"no stream yet":        {change: func(f *natsstream.Facts) { f.Stream = nil }},
		"kept for ever":        {change: func(f *natsstream.Facts) { f.Stream.MaxAge = 0 }},
		"old server":           {change: func(f *natsstream.Facts) { f.Version = "2.9.10" }, want: "warning nats: NATS 2.9.10 can lose acknowledged events when its process is killed"},
		"older cluster":        {change: func(f *natsstream.Facts) { f.Version, f.Cluster, f.Stream.Replicas = "2.11.0", "c1", 3 }, want: "when servers join or leave"},
		"small payload":        {change: func(f *natsstream.Facts) { f.MaxPayload = 256 << 10 }, want: "warning nats: max_payload is 256kB"},
		"account nearly full":  {change: func(f *natsstream.Facts) { f.Stored, f.StoreLimit = 90<<20, 100<<20 }, want: "warning nats: the account's files fill 90 % of the 100 MB"},
		"deletable":            {change: func(f *natsstream.Facts) { f.Stream.DenyPurge = false }, want: "warning stream: messages can be deleted or purged"},
		"alone in a cluster":   {change: func(f *natsstream.Facts) { f.Cluster = "c1" }, want: "warning stream: the stream has one replica in cluster c1"},
		"short memory":         {change: func(f *natsstream.Facts) { f.Stream.MaxAge = time.Hour }, want: "warning stream: events are kept for 1h0m0s"},
		"no batches":           {change: func(f *natsstream.Facts) { f.Version = "2.14.0" }, want: "note stream: the stream does not take batches"},
		"batches":              {change: func(f *natsstream.Facts) { f.Version, f.Stream.Fast, f.Stream.Atomic = "2.15.2", true, true }},
		"batches not wanted":   {change: func(f *natsstream.Facts) { f.Version = "2.14.0" }, batches: config.BatchesOff},
		"stream nearly full":   {change: func(f *natsstream.Facts) { f.Stream.Bytes, f.Stream.MaxBytes = 75, 100 }, want: "warning stream: the stream is 75 % full"},
		"stream not yet so":    {change: func(f *natsstream.Facts) { f.Stream.Bytes, f.Stream.MaxBytes = 69, 100 }},
		"account not yet full": {change: func(f *natsstream.Facts) { f.Stored, f.StoreLimit = 79<<20, 100<<20 }},
	} {
		t.Run(name, func(t *testing.T) {
			f := fit()
			tc.change(&f)
			got := said(judgeNATS(&f, tc.batches))
			if tc.want == "" {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Contains(t, got[0], tc.want)
		})
	}
}

func TestTheDoctorJudgesDurabilityAndSaysHowItIsKnown(t *testing.T) {
	const never, lag = time.Duration(0), 5 * time.Minute
	for name, tc := range map[string]struct {
		lag      time.Duration
		d        natsstream.Durability
		severity string
		want     string
	}{
		"always":              {lag, natsstream.Durability{Always: true, Interval: 2 * time.Minute, Servers: 3}, sevOK, "before it acknowledges (asked)"},
		"every two minutes":   {lag, natsstream.Durability{Interval: 2 * time.Minute, Servers: 1}, sevNote, "every 2m0s (asked); the slot keeps what was acknowledged for 5m0s"},
		"longer than the lag": {lag, natsstream.Durability{Interval: 3 * time.Minute, Servers: 1}, sevWarning, "confirm_lag is 5m0s: a power cut can cost"},
		"trusted wrongly":     {never, natsstream.Durability{Interval: 2 * time.Minute, Servers: 1}, sevWarning, "confirm_lag is 0s: a power cut can cost"},
		"trusted blindly":     {never, natsstream.Durability{}, sevWarning, "nobody asked NATS how it syncs"},
		"not known":           {lag, natsstream.Durability{}, sevNote, "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			got := judgeDurability(config.NATS{URL: secret.New("nats://n:4222"), ConfirmLag: tc.lag}, tc.d, "asked")
			require.Equal(t, tc.severity, got.Severity)
			require.Contains(t, got.Finding, tc.want)
		})
	}
	got := judgeDurability(config.NATS{ConfirmLag: lag}, natsstream.Durability{Interval: natsstream.EmbeddedSync, Servers: 1}, "the embedded server")
	require.Equal(t, sevNote, got.Severity)
	require.Contains(t, got.Finding, "every 1s (the embedded server); the slot keeps what was acknowledged for 5s")
}

func TestTheDoctorTellsOfHolesUntilTheyAreSettled(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	place := relay.StreamPlace{Seq: 3, Position: relay.Position{CommitLSN: 0x100}}
	holes := []relay.Hole{
		{Stream: "EVENTS", Reason: relay.HoleMissing, After: place, Before: relay.StreamPlace{Seq: 6}, Missing: 2, Found: at, Recorded: 9},
		{Stream: "EVENTS", Reason: relay.HolePurged, Before: relay.StreamPlace{Seq: 3}, Missing: 2, Found: at},
		{Stream: "EVENTS", Reason: relay.HoleOrder, After: place, Before: relay.StreamPlace{Seq: 4}, Found: at, Settled: true},
	}
	found := judgeHoles(holes)
	require.Equal(t, []string{
		"error stream: 2 messages are missing in stream EVENTS between 3 (0/100:0:0) and 6, found 2026-11-23T10:00:00Z; subscribers are told by message 9 on relay.control.gap",
		"warning stream: 2 messages are gone from the front of stream EVENTS before their time, purged or lost by the server: from sequence 1 to 2, found 2026-11-23T10:00:00Z; subscribers are not told yet",
	}, said(found))
	require.Contains(t, found[0].Remedy, "relay backfill TABLE")
	require.Len(t, judgeHoles(make([]relay.Hole, 100)), maxBroken+1)
}
