package pgsource_test

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

var update = flag.Bool("update", false, "write the tables of docs/reference/types.md")

const typesPage = "../../docs/reference/types.md"

// valueCase is a value of a column and the JSON that an event must have for it.
type valueCase struct {
	typ   string // of the column
	value string // an SQL expression that is assigned to it
	want  string // in data
}

// valueGroup is a table of docs/reference/types.md.
type valueGroup struct {
	title string
	cases []valueCase
}

// typesSQL makes the types that the cases name.
const typesSQL = `
create type mood as enum ('calm', 'very busy');
create type pair as (n int, s text);
create type house as (owner pair, tags text[], doc jsonb, at timestamptz, gone int, rooms pair[]);
alter type house drop attribute gone;
create type hollow as ();
create type temperature as range (subtype = numeric);
create table row_type (id int primary key, m mood);
create domain percent as int check (value between 0 and 100);
create domain small_percent as percent check (value < 50);
create domain price as numeric(12, 2);
create domain email as text;
create domain document as jsonb;
create domain raw_document as json;
create domain flag as boolean;
create domain blob as bytea;
create domain moment as timestamptz;
create domain feeling as mood;
create domain labels as text[];
create domain labels_again as labels;
create domain percents as percent[];
create domain home as house;
create domain span as int4range;
`

func valueGroups() []valueGroup {
	return []valueGroup{
		{"Numbers and truth", []valueCase{
			{"smallint", `-32768`, `-32768`},
			{"integer", `2147483647`, `2147483647`},
			{"bigint", `9223372036854775807`, `9223372036854775807`},
			{"numeric", `12345678901234567890.123456789012345678900`, `12345678901234567890.123456789012345678900`},
			{"numeric(10,2)", `12.5`, `12.50`},
			{"numeric", `'NaN'`, `"NaN"`},
			{"numeric", `'-Infinity'`, `"-Infinity"`},
			{"real", `0.1`, `0.1`},
			{"double precision", `0.1::float8 + 0.2`, `0.30000000000000004`},
			{"double precision", `1.7976931348623157e308`, `1.7976931348623157e+308`},
			{"double precision", `5e-324`, `5e-324`},
			{"double precision", `'-0'`, `-0`},
			{"double precision", `'NaN'`, `"NaN"`},
			{"double precision", `'Infinity'`, `"Infinity"`},
			{"oid", `4294967295`, `4294967295`},
			{"money", `'-1234.5'`, `"-$1,234.50"`},
			{"boolean", `true`, `true`},
			{"boolean", `null`, `null`},
		}},
		{"Text and bytes", []valueCase{
			{"text", `E'say "hi" \\ \t\n é \u2028'`, `"say \"hi\" \\ \t\n é ` + "\u2028" + `"`},
			{"text", `''`, `""`},
			{"varchar(20)", `'null'`, `"null"`},
			{"char(5)", `'ab'`, `"ab   "`},
			{"name", `'a name'`, `"a name"`},
			{`"char"`, `'x'`, `"x"`},
			{"bytea", `'\xdeadbeef00'`, `"3q2+7wA="`},
			{"bytea", `''`, `""`},
			{"bit(3)", `B'101'`, `"101"`},
			{"bit varying", `B'0110'`, `"0110"`},
			{"uuid", `'3F2504E0-4F89-11D3-9A0C-0305E82C3301'`, `"3f2504e0-4f89-11d3-9a0c-0305e82c3301"`},
			{"xml", `'<a b="1">x</a>'`, `"<a b=\"1\">x</a>"`},
		}},
		{"JSON", []valueCase{
			{"json", `'{"b": 1.0, "a":[1,2 ],"b": 12345678901234567890.10}'`, `{"b": 1.0, "a":[1,2 ],"b": 12345678901234567890.10}`},
			{"json", `'"\u00e9\u0000\ud800"'`, `"\u00e9\u0000\ud800"`},
			{"json", `E'{\n\t"a": 1\n}'`, "{\n\t\"a\": 1\n}"},
			{"jsonb", `'{"b": 1.0, "a":[1,2 ],"b": 12345678901234567890.10}'`, `{"a": [1, 2], "b": 12345678901234567890.10}`},
			{"jsonb", `'"\u00e9 \" \\ /"'`, `"é \" \\ /"`},
			{"jsonb", `'null'`, `null`},
			{"jsonb", `'1e20'`, `100000000000000000000`},
		}},
		{"Date and time", []valueCase{
			{"timestamptz", `'2026-11-23 12:00:00.123456+02'`, `"2026-11-23T10:00:00.123456Z"`},
			{"timestamptz", `'2026-11-23 10:00:00+00'`, `"2026-11-23T10:00:00Z"`},
			{"timestamp", `'2026-11-23 10:00:00.5'`, `"2026-11-23T10:00:00.5Z"`},
			{"timestamptz", `'infinity'`, `"infinity"`},
			{"timestamp", `'-infinity'`, `"-infinity"`},
			{"timestamptz", `'0044-03-15 12:00:00+00 BC'`, `"0044-03-15 12:00:00+00 BC"`},
			{"timestamp", `'10000-01-01 00:00:00'`, `"10000-01-01 00:00:00"`},
			{"date", `'2026-11-23'`, `"2026-11-23"`},
			{"date", `'infinity'`, `"infinity"`},
			{"date", `'0044-03-15 BC'`, `"0044-03-15 BC"`},
			{"time", `'10:00:00.5'`, `"10:00:00.5"`},
			{"time", `'24:00:00'`, `"24:00:00"`},
			{"timetz", `'10:00:00+05:30'`, `"10:00:00+05:30"`},
			{"interval", `'1 year 2 mons -3 days 04:05:06.789'`, `"1 year 2 mons -3 days +04:05:06.789"`},
			{"interval", `'0'`, `"00:00:00"`},
		}},
		{"Arrays", []valueCase{
			{"int[]", `'{1,NULL,3}'`, `[1,null,3]`},
			{"int[]", `'{}'`, `[]`},
			{"int[]", `'{{1,2},{3,4}}'`, `[[1,2],[3,4]]`},
			{"int[]", `'[2:3]={1,2}'`, `[1,2]`},
			{"text[]", `array['a', 'b,c', '{d}', 'say "hi"', '\', '', ' ', 'NULL', null]`, `["a","b,c","{d}","say \"hi\"","\\",""," ","NULL",null]`},
			{"float8[]", `'{1.5,NaN,-Infinity}'`, `[1.5,"NaN","-Infinity"]`},
			{"boolean[]", `'{t,f}'`, `[true,false]`},
			{"bytea[]", `array['\x00ff'::bytea]`, `["AP8="]`},
			{"timestamptz[]", `'{"2026-11-23 10:00:00+00",infinity}'`, `["2026-11-23T10:00:00Z","infinity"]`},
			{"jsonb[]", `array['{"a": [1, "x"]}'::jsonb, 'null', null]`, `[{"a": [1, "x"]},null,null]`},
			{"mood[]", `'{calm,"very busy"}'`, `["calm","very busy"]`},
			{"pair[]", `array[(1, 'a'), null, (null, '(")')]::pair[]`, `[{"n":1,"s":"a"},null,{"n":null,"s":"(\")"}]`},
			{"percent[]", `'{1,2}'`, `[1,2]`},
			{"labels[]", `array['{a,b}', '{}']::labels[]`, `[["a","b"],[]]`},
			{"int4range[]", `'{"[1,5)",empty}'`, `["[1,5)","empty"]`},
			{"box[]", `'{(1,1),(0,0);(2,2),(1,1)}'`, `["(1,1),(0,0)","(2,2),(1,1)"]`},
		}},
		{"Composites", []valueCase{
			{"pair", `(1, 'a "b", (c)')`, `{"n":1,"s":"a \"b\", (c)"}`},
			{"pair", `(null, '')`, `{"n":null,"s":""}`},
			{"pair", `(null, null)`, `{"n":null,"s":null}`},
			{
				"house", `((7, 'O"Hara'), '{x,"y z"}', '{"k": [1.50]}', '2026-11-23 10:00:00+00', array[(1, 'a'), (2, null)]::pair[])`,
				`{"owner":{"n":7,"s":"O\"Hara"},"tags":["x","y z"],"doc":{"k": [1.50]},"at":"2026-11-23T10:00:00Z","rooms":[{"n":1,"s":"a"},{"n":2,"s":null}]}`,
			},
			{"row_type", `(1, 'calm')`, `{"id":1,"m":"calm"}`},
			{"hollow", `row()`, `{}`},
		}},
		{"Domains and enums", []valueCase{
			{"mood", `'very busy'`, `"very busy"`},
			{"percent", `7`, `7`},
			{"small_percent", `7`, `7`},
			{"price", `1.5`, `1.50`},
			{"email", `'a@b.c'`, `"a@b.c"`},
			{"document", `'{"a": 1}'`, `{"a": 1}`},
			{"raw_document", `'{"a":1,"a":2}'`, `{"a":1,"a":2}`},
			{"flag", `false`, `false`},
			{"blob", `'\x00'`, `"AA=="`},
			{"moment", `'2026-11-23 10:00:00+00'`, `"2026-11-23T10:00:00Z"`},
			{"feeling", `'calm'`, `"calm"`},
			{"labels", `'{a,NULL}'`, `["a",null]`},
			{"labels_again", `'{a}'`, `["a"]`},
			{"percents", `'{1,NULL}'`, `[1,null]`},
			{"home", `row(row(1, 'x')::pair, null, null, null, null)::house`, `{"owner":{"n":1,"s":"x"},"tags":null,"doc":null,"at":null,"rooms":null}`},
			{"span", `'[1,5)'`, `"[1,5)"`},
		}},
		{"Ranges", []valueCase{
			{"int4range", `'[1,4]'`, `"[1,5)"`},
			{"int8range", `'empty'`, `"empty"`},
			{"numrange", `'(1.50,)'`, `"(1.50,)"`},
			{"daterange", `'[2026-01-01,2026-01-31]'`, `"[2026-01-01,2026-02-01)"`},
			{"tsrange", `'[2026-01-01 00:00:00,)'`, `"[\"2026-01-01 00:00:00\",)"`},
			{"tstzrange", `'[2026-01-01 00:00:00+00,infinity]'`, `"[\"2026-01-01 00:00:00+00\",infinity]"`},
			{"temperature", `'[36.6,37.2]'`, `"[36.6,37.2]"`},
			{"int4multirange", `'{[1,3),[5,8)}'`, `"{[1,3),[5,8)}"`},
			{"int8multirange", `'{}'`, `"{}"`},
			{"nummultirange", `'{[1.5,2]}'`, `"{[1.5,2]}"`},
			{"datemultirange", `'{[2026-01-01,2026-01-02)}'`, `"{[2026-01-01,2026-01-02)}"`},
			{"tsmultirange", `'{[2026-01-01 00:00:00,)}'`, `"{[\"2026-01-01 00:00:00\",)}"`},
			{"tstzmultirange", `'{[2026-01-01 00:00:00+00,)}'`, `"{[\"2026-01-01 00:00:00+00\",)}"`},
		}},
		{"Everything else is its text", []valueCase{
			{"inet", `'192.168.0.1/24'`, `"192.168.0.1/24"`},
			{"inet", `'::1'`, `"::1"`},
			{"cidr", `'10.0.0.0/8'`, `"10.0.0.0/8"`},
			{"macaddr", `'08:00:2B:01:02:03'`, `"08:00:2b:01:02:03"`},
			{"macaddr8", `'08:00:2b:01:02:03:04:05'`, `"08:00:2b:01:02:03:04:05"`},
			{"point", `'(1,-2.5)'`, `"(1,-2.5)"`},
			{"line", `'{1,-1,0}'`, `"{1,-1,0}"`},
			{"lseg", `'[(0,0),(1,1)]'`, `"[(0,0),(1,1)]"`},
			{"box", `'(0,0),(1,1)'`, `"(1,1),(0,0)"`},
			{"path", `'[(0,0),(1,1)]'`, `"[(0,0),(1,1)]"`},
			{"polygon", `'((0,0),(1,0),(0,1))'`, `"((0,0),(1,0),(0,1))"`},
			{"circle", `'<(0,0),1.5>'`, `"<(0,0),1.5>"`},
			{"tsvector", `'a:1A fat:2 cat'`, `"'a':1A 'cat' 'fat':2"`},
			{"tsquery", `'fat & (rat | !cat)'`, `"'fat' & ( 'rat' | !'cat' )"`},
			{"jsonpath", `'$.a[*] ? (@ > 1)'`, `"$.\"a\"[*]?(@ > 1)"`},
			{"pg_lsn", `'0/16B3748'`, `"0/16B3748"`},
			{"xid", `'4294967295'`, `"4294967295"`},
			{"xid8", `'18446744073709551615'`, `"18446744073709551615"`},
			{"cid", `'7'`, `"7"`},
			{"tid", `'(1,2)'`, `"(1,2)"`},
			{"int2vector", `'1 2'`, `"1 2"`},
			{"oidvector", `'1 2'`, `"1 2"`},
			{"regclass", `'row_type'`, `"public.row_type"`},
			{"regcollation", `'"C"'`, `"\"C\""`},
			{"regconfig", `'english'`, `"english"`},
			{"regdictionary", `'simple'`, `"simple"`},
			{"regnamespace", `'public'`, `"public"`},
			{"regoper", `'||/'`, `"||/"`},
			{"regoperator", `'+(int4,int4)'`, `"+(integer,integer)"`},
			{"regproc", `'now'`, `"now"`},
			{"regprocedure", `'abs(int4)'`, `"abs(integer)"`},
			{"regrole", `current_user::regrole`, `"postgres"`},
			{"regtype", `'mood'`, `"public.mood"`},
			{"refcursor", `'c'`, `"c"`},
			{"aclitem", `'postgres=r/postgres'`, `"postgres=r/postgres"`},
			{"pg_snapshot", `'1:3:2'`, `"1:3:2"`},
			{"txid_snapshot", `'1:3:2'`, `"1:3:2"`},
		}},
	}
}

func TestEveryTypeComesOutAsItsPageSays(t *testing.T) {
	var all []valueCase
	for _, g := range valueGroups() {
		all = append(all, g.cases...)
	}
	requireValues(t, all)
}

// extremes are values for which a line of a page is too short.
func extremes() []valueCase {
	digits := strings.Repeat("9876543210", 13_000)
	return []valueCase{
		{"numeric", digits, digits},
		{"numeric", "'0." + digits[:16_000] + "1'", "0." + digits[:16_000] + "1"},
		{"jsonb", "'[" + digits + "]'", "[" + digits + "]"},
		{"jsonb", "'1e400'", "1" + strings.Repeat("0", 400)},
		{"json", "'1e400'", "1e400"},
		{"jsonb", "repeat('[', 2000)::text || repeat(']', 2000)", strings.Repeat("[", 2000) + strings.Repeat("]", 2000)},
		{"real", "'3.4028235e38'", "3.4028235e+38"},
		{"real", "'1e-45'", "1e-45"},
		{"bigint", "'-9223372036854775808'", "-9223372036854775808"},
		{"timestamp", "'294276-12-31 23:59:59.999999'", `"294276-12-31 23:59:59.999999"`},
		{"timestamp", "'4713-01-01 00:00:00 BC'", `"4713-01-01 00:00:00 BC"`},
		{"timestamptz", "'9999-12-31 23:59:59.999999+00'", `"9999-12-31T23:59:59.999999Z"`},
		{"timestamptz", "'0001-01-01 00:00:00+00'", `"0001-01-01T00:00:00Z"`},
		{"interval", "'-178000000 years'", `"-178000000 years"`},
		{"text", "repeat('é', 1000000)", `"` + strings.Repeat("é", 1_000_000) + `"`},
		{"text", `E'\x01\x1f\x7f'`, `"\u0001\u001f` + "\x7f" + `"`},
		{"bytea", "decode(repeat('00ff', 300000), 'hex')", `"` + strings.Repeat("AP8A/wD/", 100_000) + `"`},
		{"text[]", "array(select 'x,' || i from generate_series(1, 3) i)", `["x,1","x,2","x,3"]`},
		{"int[]", "'{{{{{{1}}}}}}'", "[[[[[[1]]]]]]"},
		{"int[]", "'[0:1][-1:0]={{1,NULL},{3,4}}'", "[[1,null],[3,4]]"},
		{"text[]", `array['null', 'Null', E'\n', '\"', 'a"', '''']`, `["null","Null","\n","\\\"","a\"","'"]`},
		{`"char"`, `''`, `""`},
		{"char(3)", `''`, `"   "`},
		{"pair", `(1, E'\\ \n {x}')`, `{"n":1,"s":"\\ \n {x}"}`},
		{
			"house[]", `array[row(row(1, '"\,')::pair, array['"', '\', ','], '["\"\\"]', null, array[row(2, ')')::pair])::house]`,
			`[{"owner":{"n":1,"s":"\"\\,"},"tags":["\"","\\",","],"doc":["\"\\"],"at":null,"rooms":[{"n":2,"s":")"}]}]`,
		},
		{"house", `null`, `null`},
		{"hollow[]", `array[row()::hollow, null]`, `[{},null]`},
	}
}

func TestExtremeValuesKeepEveryDigitAndByte(t *testing.T) { requireValues(t, extremes()) }

// requireValues inserts each value into a table of its own and compares the data of
// the event byte for byte.
func requireValues(t *testing.T, cases []valueCase) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(fmt.Sprintf(`alter database %s set lc_monetary = 'C'`, db.Name))
	db.Exec(typesSQL)
	var tables []string
	var sql strings.Builder
	for i, c := range cases {
		tables = append(tables, fmt.Sprintf("public.v%d", i))
		fmt.Fprintf(&sql, "create table v%d (v %s);\n", i, c.typ)
	}
	db.Exec(sql.String())
	w := newWatch(t, db, tables...)
	for i, c := range cases {
		db.Exec(fmt.Sprintf("insert into v%d values ((%s)%s)", i, c.value, cast(c)))
	}
	var wrong []string
	for i, e := range w.next(t, len(cases)) {
		if want := `{"v":` + cases[i].want + `}`; e.Data != want {
			wrong = append(wrong, fmt.Sprintf("%s %s: %s is not %s", cases[i].typ, shortened(cases[i].value), shortened(e.Data), shortened(want)))
		}
	}
	require.Empty(t, wrong)
}

// cast makes a value of the column's type of what an assignment would not take.
func cast(c valueCase) string { return "::" + c.typ }

func shortened(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// withoutValues are the built-in types that a column cannot have, or no value can be
// written to.
var withoutValues = []string{
	"gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies", "pg_mcv_list", "pg_ndistinct", "pg_node_tree",
}

func TestEveryBuiltInTypeIsOnThePage(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(typesSQL)
	var names []string
	for _, g := range valueGroups() {
		for _, c := range g.cases {
			names = append(names, c.typ)
		}
	}
	missing := pgtest.All[string](db, `
		select typname::text from pg_type t
		where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm', 'e') and typcategory <> 'A'
		  and typname <> all ($1) and oid <> all (array(select n::regtype::oid from unnest($2::text[]) n))
		order by 1`, withoutValues, names)
	require.Empty(t, missing)
}

func TestThePageOfTypesShowsTheCasesOfThisTest(t *testing.T) {
	content, err := os.ReadFile(typesPage)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(content), pageBegin)
	require.True(t, ok, "%s has no mark %s", typesPage, pageBegin)
	_, tail, ok := strings.Cut(rest, pageEnd)
	require.True(t, ok, "%s has no mark %s", typesPage, pageEnd)
	want := head + pageBegin + "\n" + pageTables() + pageEnd + tail
	if *update {
		require.NoError(t, os.WriteFile(typesPage, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(content), "run go test ./relay/pgsource -run TestThePageOfTypes -update")
}

const (
	pageBegin = "<!-- made from relay/pgsource/types_test.go -->"
	pageEnd   = "<!-- end -->"
)

func pageTables() string {
	var b strings.Builder
	code := func(s string) string {
		s = strings.NewReplacer("\n", "↵", "\t", "⇥", "\u2028", "\\u2028", "|", `\|`).Replace(s)
		if !utf8.ValidString(s) || strings.Contains(s, "`") {
			panic("a page cannot show " + s)
		}
		return "`" + s + "`"
	}
	fmt.Fprintf(&b, "\nThe examples below use these types:\n\n```sql%s```\n", typesSQL)
	for _, g := range valueGroups() {
		fmt.Fprintf(&b, "\n### %s\n\n| type | value | in `data` |\n|---|---|---|\n", g.title)
		for _, c := range g.cases {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", code(c.typ), code(c.value), code(c.want))
		}
	}
	b.WriteString("\n")
	return b.String()
}

// database makes another database of the test's cluster, with an encoding.
func database(t *testing.T, db *pgtest.DB, encoding string) (pgsource.Config, func(sql string)) {
	name := db.Name + "_" + strings.ToLower(encoding)
	db.Exec(fmt.Sprintf(`create database %s encoding '%s' locale 'C' template template0`, name, encoding))
	t.Cleanup(func() { db.Exec(`drop database ` + name + ` with (force)`) })
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	u.Path = "/" + name
	cfg := config(db)
	cfg.URL, cfg.Slot = secret.New(u.String()), "slot_"+name
	t.Cleanup(func() { db.Exec(`select pg_drop_replication_slot($1)`, cfg.Slot) })
	conn, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return cfg, func(sql string) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func TestValuesAreUTF8WhateverTheDatabasesEncoding(t *testing.T) {
	db := pgtest.New(t)
	for encoding, want := range map[string]string{
		"LATIN1": `insert t {"id":"é"} {"id":"é","v":["é"],"j":{"k": "é"}}`,
		// Nobody knows what the bytes of such a database mean.
		"SQL_ASCII": "insert t {\"id\":\"\uFFFD\"} {\"id\":\"\uFFFD\",\"v\":[\"\uFFFD\"],\"j\":\"{\\\"k\\\": \\\"\uFFFD\\\"}\"}",
	} {
		cfg, exec := database(t, db, encoding)
		exec(`create table t (id text primary key, v text[], j jsonb)`)
		cfg.Tables = []relay.TableNeed{{Name: "public.t"}}
		w := openWatch(t, cfg, "public.t")
		require.NoError(t, w.src.Start(t.Context()))
		exec(`insert into t select s, array[s], jsonb_build_object('k', s) from convert_from('\xe9', current_setting('server_encoding')) s`)
		require.Equal(t, want, w.next(t, 1)[0].String())
		closeSource(t, w.src)
	}
}
