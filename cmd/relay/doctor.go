package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/migrations"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
	"github.com/dot-do/relay/relay/pgstore"
)

type doctorCmd struct {
	JSON bool `help:"One JSON array of findings."`
}

// finding is one line of the doctor's report.
type finding struct {
	Severity string `json:"severity"` // ok, note, warning or error
	Area     string `json:"area"`
	Finding  string `json:"finding"`
	Remedy   string `json:"remedy,omitempty"`
}

const (
	sevOK      = "ok"
	sevNote    = "note" // worth to know, nothing to do
	sevWarning = "warning"
	sevError   = "error"
)

// doctor collects findings.
type doctor struct {
	cfg      config.Config
	keyring  *secret.Keyring
	findings findings
}

func (d *doctor) add(severity, area, what, remedy string) {
	d.findings.add(severity, area, what, remedy)
}

func (d *doctor) fail(area string, err error) {
	what, remedy := remedyOf(err)
	d.add(sevError, area, what, remedy)
}

// Run looks at the whole path and fails when something is in the way of it.
func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	ring, warning, err := loadKeyring(cfg)
	if err != nil {
		return err
	}
	d := &doctor{cfg: cfg, keyring: ring}
	if warning != "" {
		d.add(sevWarning, "secrets", warning, "chmod 600 the file")
	}
	pool, err := openPool(ctx, cfg)
	if err != nil {
		d.fail("postgres", err)
	} else {
		defer pool.Close()
		d.database(ctx, pool)
	}
	d.nats(ctx)
	if err := d.print(a.stdout, c.JSON); err != nil {
		return err
	}
	if errs := d.count(sevError); errs > 0 {
		return fmt.Errorf("the doctor found %s", counted(errs, "error"))
	}
	return nil
}

func (d *doctor) count(severity string) int {
	n := 0
	for _, f := range d.findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

func (d *doctor) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(d.findings)
	}
	paint := painter(w)
	marks := map[string]string{sevOK: paint(green, "ok     "), sevNote: paint(cyan, "note   "), sevWarning: paint(yellow, "warning"), sevError: paint(red, "error  ")}
	for _, f := range d.findings {
		fmt.Fprintf(w, "%s  %-13s %s\n", marks[f.Severity], f.Area, indented(f.Finding, 23))
		if f.Remedy != "" {
			fmt.Fprintf(w, "%24s%s\n", "→ ", indented(f.Remedy, 24))
		}
	}
	var found []string
	for _, severity := range []string{sevError, sevWarning, sevNote} {
		if n := d.count(severity); n > 0 {
			found = append(found, counted(n, severity))
		}
	}
	if found == nil {
		found = []string{"all is well"}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(found, ", "))
	return err
}

// indented puts blanks before all lines but the first. Keys of filters and ids of rows
// are in these texts, and cannot control the terminal.
func indented(text string, by int) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = harmless(line)
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", by))
}

func (d *doctor) database(ctx context.Context, pool *pgxpool.Pool) {
	if !d.migrations(ctx, pool) {
		return
	}
	store, err := pgstore.Open(ctx, pgstore.Config{URL: d.cfg.Source.URL, Keyring: d.keyring})
	if err != nil {
		d.fail("tables", err)
		return
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	catalog, err := store.Current(ctx, "")
	if err != nil {
		d.fail("mappings", err)
		return
	}
	checkpoint, err := store.Load(ctx, d.cfg.Source.Slot)
	if err != nil {
		d.fail("checkpoint", err)
		return
	}
	d.capture(ctx, catalog, checkpoint)
	d.source(ctx, catalog)
	d.slot(ctx, pool, checkpoint != nil)
	d.holes(ctx, store)
	d.mappings(catalog)
	d.schemas(ctx, catalog, store)
	d.webhooks(ctx, pool, store)
}

func (d *doctor) migrations(ctx context.Context, pool *pgxpool.Pool) (applied bool) {
	states, err := migrations.Status(ctx, pool)
	if err != nil {
		d.fail("migrations", err)
		return false
	}
	var pending []string
	for _, s := range states {
		switch s.State {
		case migrations.StatePending:
			pending = append(pending, s.Name)
		case migrations.StateChanged, migrations.StateUnknown:
			d.add(sevError, "migrations", s.Name+" is "+string(s.State), "use the relay release that applied it")
		case migrations.StateApplied, migrations.StateSkipped:
		}
	}
	if len(pending) > 0 {
		d.add(sevError, "migrations", fmt.Sprintf("%d of %d are not applied: %s", len(pending), len(states), strings.Join(pending, ", ")), "run: relay migrate up")
		return false
	}
	d.add(sevOK, "migrations", fmt.Sprintf("%d known, none missing", len(states)), "")
	return true
}

// capture asks the same questions as relay setup, about a missing or lost slot too.
func (d *doctor) capture(ctx context.Context, catalog *relay.Catalog, checkpoint *relay.Checkpoint) {
	p := &process{cfg: d.cfg}
	steps, err := pgsource.Plan(ctx, p.sourceConfig(catalog, checkpoint))
	if err != nil {
		d.fail("capture", err)
		return
	}
	left, sql := len(steps.SQL), strings.Join(steps.SQL, ";\n")+";"
	switch {
	case left == 0:
		d.add(sevOK, "capture", "wal_level, privileges, publication and replica identities are as the mappings need them", "")
	case steps.Refused:
		d.add(sevError, "capture", counted(left, "statement")+" left to do, which this role may not run", "let a superuser run:\n"+sql)
	default:
		d.add(sevWarning, "capture", counted(left, "statement")+" left to do; relay run and relay setup do them", sql)
	}
	for _, t := range steps.Dormant {
		d.add(sevWarning, "mappings", t.Table+" "+t.Reason+": its mappings are dormant", "")
	}
}

// source judges what the server tells.
func (d *doctor) source(ctx context.Context, catalog *relay.Catalog) {
	p := &process{cfg: d.cfg}
	facts, err := pgsource.Examine(ctx, p.sourceConfig(catalog, nil))
	if err != nil {
		d.fail("postgres", err)
		return
	}
	d.findings = append(d.findings, judgePostgres(&facts, d.cfg.Source)...)
}

func (d *doctor) slot(ctx context.Context, pool *pgxpool.Pool, expected bool) {
	var (
		active   bool
		status   string
		retained int64
	)
	err := pool.QueryRow(ctx, `
		select active, coalesce(wal_status, ''), coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
		from pg_replication_slots where slot_name = $1`, d.cfg.Source.Slot).Scan(&active, &status, &retained)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && expected, status == "lost":
		// An error of capture already, with the range that is lost.
	case errors.Is(err, pgx.ErrNoRows):
		d.add(sevOK, "slot", "slot "+d.cfg.Source.Slot+" does not exist yet; relay run creates it", "")
	case err != nil:
		d.fail("slot", fmt.Errorf("read pg_replication_slots: %w", err))
	case status == "unreserved":
		d.add(sevError, "slot", "slot "+d.cfg.Source.Slot+" is about to be lost", "start relay run now, or raise max_slot_wal_keep_size")
	case !active:
		d.add(sevWarning, "slot", fmt.Sprintf("nobody reads slot %s: it holds %d MiB of log on the server's disk", d.cfg.Source.Slot, retained>>20), "start relay run, or drop the slot")
	default:
		d.add(sevOK, "slot", fmt.Sprintf("slot %s is being read and holds %d MiB of log", d.cfg.Source.Slot, retained>>20), "")
	}
}

// holes are what the audit of the stream found. It needs no NATS: the relay wrote it down.
func (d *doctor) holes(ctx context.Context, store *pgstore.Store) {
	holes, err := store.Holes(ctx, d.cfg.Source.Slot)
	if err != nil {
		d.fail("stream", err)
		return
	}
	d.findings = append(d.findings, judgeHoles(holes)...)
}

// judgeHoles says what nobody has dealt with yet. Somebody may have wanted a purge;
// everything else is an error.
func judgeHoles(holes []relay.Hole) []finding {
	var out findings
	open := slices.DeleteFunc(slices.Clone(holes), func(h relay.Hole) bool { return h.Settled })
	for i := range open {
		h, severity := &open[i], sevError
		if h.Reason == relay.HolePurged {
			severity = sevWarning
		}
		if more := len(open) - i; i == maxBroken {
			out.add(sevError, "stream", plural(more, "more hole", "more holes")+" in the stream", "select * from relay_stream_holes where settled_at is null")
			break
		}
		told := "; subscribers are not told yet"
		if h.Recorded > 0 {
			told = fmt.Sprintf("; subscribers are told by message %d on %s", h.Recorded, relay.ControlGap)
		}
		out.add(severity, "stream", h.String()+", found "+h.Found.Format(time.RFC3339)+told, h.Remedy())
	}
	return out
}

func (d *doctor) mappings(catalog *relay.Catalog) {
	usable, errs := catalog.Compile()
	for _, err := range errs {
		remedy := "update or delete the row in event_mappings"
		if _, filter := errors.AsType[*relay.FilterError](err); filter {
			remedy = "correct it in event_mappings; relay filters check --all shows every mistake"
		}
		d.add(sevError, "mappings", err.Error(), remedy)
	}
	d.add(sevOK, "mappings", fmt.Sprintf("%d in use, %d event types registered", len(usable), len(catalog.Events)), "")
}

// schemas judges the payload schemas, and tells of the events that wait for them.
func (d *doctor) schemas(ctx context.Context, catalog *relay.Catalog, store *pgstore.Store) {
	schemas, errs := catalog.Schemas(nil)
	for _, err := range errs {
		d.add(sevError, "schemas", fmt.Sprintf("payload_schema of %s cannot be used: %v; its events are parked", err.EventType, err.Err),
			"correct it in zapier_webhook_events, then run: relay parked retry")
	}
	counts, err := store.CountParked(ctx, pgstore.ParkedQuery{Slot: d.cfg.Source.Slot})
	if err != nil {
		d.fail("schemas", err)
		return
	}
	for _, c := range counts {
		d.add(sevWarning, "schemas", fmt.Sprintf("%s of %s violate its schema and are not published, the oldest parked at %s",
			plural(int(c.Events), "event", "events"), c.EventType, c.Oldest.UTC().Format(time.RFC3339)),
			"relay parked list says why; correct the schema or the rows, then run: relay parked retry")
	}
	d.add(sevOK, "schemas", fmt.Sprintf("events of %s are held to a schema", plural(schemas.Enforced(), "type", "types")), "")
}

// maxBroken is how many webhooks that match nothing are shown one by one.
const maxBroken = 20

func (d *doctor) webhooks(ctx context.Context, pool *pgxpool.Pool, store *pgstore.Store) {
	total, broken := 0, 0
	err := store.All(ctx, func(s relay.Subscription) error {
		total++
		if s.Broken == nil {
			return nil
		}
		if broken++; broken > maxBroken {
			return nil
		}
		remedy := "correct the row in zapier_webhooks"
		if s.Quarantined() {
			remedy = "correct its filters; relay filters check --webhook " + s.ID + " shows every mistake"
		}
		d.add(sevError, "webhooks", fmt.Sprintf("webhook %s matches nothing: %v", s.ID, s.Broken), remedy)
		return nil
	})
	if err != nil {
		d.fail("webhooks", err)
		return
	}
	if more := broken - maxBroken; more > 0 {
		d.add(sevError, "webhooks", plural(more, "more webhook matches nothing", "more webhooks match nothing"), "relay filters check --all names those with a bad filter")
	}
	var plain, unsigned int
	err = pool.QueryRow(ctx, `
		select count(*) filter (where signing_secret is not null and signing_secret not like 'enc:v1:%'),
		       count(*) filter (where signing_secret is null)
		from zapier_webhooks where status = 'active'`).Scan(&plain, &unsigned)
	if err != nil {
		d.fail("webhooks", fmt.Errorf("count secrets: %w", err))
		return
	}
	if plain > 0 {
		remedy := "set RELAY_MASTER_KEY_FILE and let relay run encrypt them"
		if d.cfg.MasterKeyFile != "" {
			remedy = "relay run encrypts them within seconds"
		}
		d.add(sevWarning, "secrets", plural(plain, "signing secret is", "signing secrets are")+" stored as plain text", remedy)
	}
	if unsigned > 0 {
		d.add(sevWarning, "secrets", plural(unsigned, "webhook has", "webhooks have")+" no signing secret: what they get is unsigned", "set zapier_webhooks.signing_secret to whsec_ and 32 random bytes in base64")
	}
	d.add(sevOK, "webhooks", counted(total, "subscription"), "")
}

// counted is a number with its noun.
func counted(n int, noun string) string { return plural(n, noun, noun+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
