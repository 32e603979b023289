package pgsource_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

// role makes a login role and returns a configuration that uses it.
func role(t *testing.T, db *pgtest.DB, cfg pgsource.Config) pgsource.Config {
	t.Helper()
	name := "role_" + db.Name
	db.Exec(fmt.Sprintf("create role %s login password 'pw'", name))
	t.Cleanup(func() { db.Exec(fmt.Sprintf("drop owned by %s; drop role %[1]s", name)) })
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	u.User = url.UserPassword(name, "pw")
	cfg.URL = secret.New(u.String())
	return cfg
}

func TestTheSQLForADBAIsCompleteAndThenTheRoleIsEnough(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create schema app; create table app."Odd name" (id int primary key, v text); create table public.event_mappings (id int primary key);
		create table public.outbox_events (id int primary key)`)
	cfg := role(t, db, config(db, "app.Odd name"))
	cfg.ControlTables = []string{"public.event_mappings", "public.outbox_events", "public.zapier_webhooks"}

	_, err := pgsource.Open(t.Context(), cfg)
	intro, sql, ok := strings.Cut(requireSetup(t, err), "\n")
	require.True(t, ok)
	require.Contains(t, intro, "superuser")
	require.Equal(t, []string{
		fmt.Sprintf(`ALTER ROLE "role_%s" REPLICATION;`, db.Name),
		`ALTER TABLE "public"."event_mappings" REPLICA IDENTITY FULL;`,
		`ALTER TABLE "app"."Odd name" REPLICA IDENTITY FULL;`,
		`CREATE PUBLICATION "pub" FOR TABLE "public"."event_mappings", "public"."outbox_events", "app"."Odd name" WITH (publish_via_partition_root = true);`,
	}, strings.Split(sql, "\n"))

	plan, err := pgsource.Plan(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, strings.Split(sql, "\n"), withSemicolons(plan.SQL[:4]))
	require.Equal(t, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", cfg.Slot), plan.SQL[4])
	_, err = pgsource.Setup(t.Context(), cfg)
	requireSetup(t, err)
	require.Zero(t, pgtest.One[int](db, "select count(*) from pg_publication"))

	db.Exec(sql)
	src := start(t, cfg)
	db.Exec(`insert into app."Odd name" values (1, 'x')`)
	require.Equal(t, "insert Odd name new(1,x)", text(read(t, src, 1)[0].Change))

	db.Exec("create table app.later (id int primary key)")
	_, err = src.EnsureTables(t.Context(), []relay.TableNeed{{Name: "app.later"}})
	require.Contains(t, requireSetup(t, err), `ALTER PUBLICATION "pub" ADD TABLE "app"."later";`)
}

func withSemicolons(sql []string) []string {
	var out []string
	for _, s := range sql {
		out = append(out, s+";")
	}
	return out
}

func TestARoleThatOwnsItsTablesNeedsNoDBA(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := role(t, db, config(db, "public.t"))
	name := "role_" + db.Name
	db.Exec(fmt.Sprintf("alter role %s replication; grant create on database %s to %[1]s; alter table t owner to %[1]s", name, db.Name))
	src := start(t, cfg)
	db.Exec("insert into t values (1)")
	read(t, src, 1)
}

func TestSetupDoesWhatPlanSaysAndThenNothingIsLeft(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db, "public.t", "public.nosuch")
	plan, err := pgsource.Plan(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, plan.SQL, 3)
	require.Equal(t, []pgsource.Dormant{{Table: "public.nosuch", Reason: "does not exist", Missing: true}}, plan.Dormant)
	done, err := pgsource.Setup(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, plan, done)
	plan, err = pgsource.Plan(t.Context(), cfg)
	require.NoError(t, err)
	require.Empty(t, plan.SQL)

	cfg.ExpectSlot, cfg.CreateSlot = true, false
	src := start(t, cfg)
	require.Equal(t, plan.Dormant, src.Dormant())
	plan, err = pgsource.Plan(t.Context(), cfg)
	require.NoError(t, err, "planning does not mind a running relay")
	require.Empty(t, plan.SQL)
}

func TestATableWithoutIdentityStaysWritable(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table bare (id int); create table nothing (id int primary key); alter table nothing replica identity nothing")
	cfg := config(db)
	cfg.Tables = []relay.TableNeed{{Name: "public.bare"}, {Name: "public.nothing"}} // nobody needs their old rows
	src := start(t, cfg)
	db.Exec("insert into bare values (1); insert into nothing values (1)")
	db.Exec("update bare set id = 2; delete from nothing")
	require.Len(t, read(t, src, 4), 4)
}

func TestThePublicationGrowsAndIsNeverMadeAnew(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table a (id int primary key); create table b (id int primary key); create table c (id int primary key)")
	db.Exec("create publication pub for table a, c")
	oid := pgtest.One[uint32](db, "select oid from pg_publication")
	src := start(t, config(db, "public.a", "public.b"))
	require.Equal(t, []string{"a", "b", "c"}, pgtest.All[string](db, "select tablename::text from pg_publication_tables order by 1"))
	require.Equal(t, oid, pgtest.One[uint32](db, "select oid from pg_publication"))

	// A mapping names one more table while the stream is running.
	db.Exec("create table d (id int primary key)")
	db.Exec("insert into d values (1)")
	dormant, err := src.EnsureTables(t.Context(), []relay.TableNeed{{Name: "public.d", OldRows: true}, {Name: "public.e"}})
	require.NoError(t, err)
	require.Equal(t, []pgsource.Dormant{{Table: "public.e", Reason: "does not exist", Missing: true}}, dormant)
	db.Exec("update d set id = 2")
	require.Equal(t, "update d old(1) new(2)", text(read(t, src, 1)[0].Change))
}

func TestAPublicationOfAllTablesOrOfASchemaIsEnough(t *testing.T) {
	for _, scope := range []string{"all tables", "tables in schema public"} {
		db := pgtest.New(t)
		db.Exec("create table t (id int primary key)")
		db.Exec("create publication pub for " + scope)
		cfg := config(db)
		cfg.Tables = []relay.TableNeed{{Name: "public.t"}}
		plan, err := pgsource.Plan(t.Context(), cfg)
		require.NoError(t, err)
		require.Len(t, plan.SQL, 1, "only the slot")
	}
}

func TestANarrowedPublicationIsNotWidenedWithoutAWord(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key); create table p (id int primary key) partition by hash (id)")
	db.Exec("create publication pub for table t with (publish = 'insert')")
	_, err := pgsource.Open(t.Context(), config(db, "public.t", "public.p"))
	_, sql, _ := strings.Cut(requireSetup(t, err), "\n")
	require.Contains(t, sql, "SET (publish = 'insert, update, delete, truncate')")
	require.Contains(t, sql, "SET (publish_via_partition_root = true)")
	for statement := range strings.SplitSeq(sql, "\n") {
		db.Exec(statement)
	}
	start(t, config(db, "public.t", "public.p"))
}

func TestWhatCannotBePublishedIsDormantWithItsReason(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create view v as select 1 as x; create unlogged table u (id int primary key); create sequence s; create table t (id int primary key)")
	cfg := config(db, "public.v", "public.u", "public.s", "pg_catalog.pg_class", "nowhere.t", "public.t")
	src := open(t, cfg)
	var names []string
	for _, d := range src.Dormant() {
		require.NotEmpty(t, d.Reason)
		names = append(names, d.Table)
	}
	require.ElementsMatch(t, []string{"public.v", "public.u", "public.s", "pg_catalog.pg_class", "nowhere.t"}, names)
	require.Equal(t, []string{"t"}, pgtest.All[string](db, "select tablename::text from pg_publication_tables"))

	cfg.Tables = []relay.TableNeed{{Name: "noschema"}}
	_, err := pgsource.Plan(t.Context(), cfg)
	requireSetup(t, err)
}

func TestALockedTableIsReportedWithTheStatement(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db)
	cfg.URL = secret.New(db.URL + "&lock_timeout=200ms")
	src := start(t, cfg)
	tx, err := db.Connect().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table t in access exclusive mode")
	require.NoError(t, err)
	_, err = src.EnsureTables(t.Context(), []relay.TableNeed{{Name: "public.t", OldRows: true}})
	require.ErrorContains(t, err, `ALTER TABLE "public"."t" REPLICA IDENTITY FULL`)
	require.ErrorContains(t, err, "will be tried again")
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = src.EnsureTables(t.Context(), []relay.TableNeed{{Name: "public.t", OldRows: true}})
	require.NoError(t, err)
}

func TestSetupErrorsKeepTheServersCode(t *testing.T) {
	db := pgtest.New(t)
	cfg := config(db)
	cfg.URL = secret.New(strings.Replace(db.URL, "@", "x@", 1))
	_, err := pgsource.Setup(context.Background(), cfg)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "28P01", pg.Code)
}
