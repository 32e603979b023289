package filters_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/pgtest"
)

// sqlTwin writes a filter as a SQL condition on an event. It knows nothing of the
// compiler: it reads the filter's text and writes what each operator means over jsonb.
// SQL's own three-valued logic is the one that the rules ask for, so a condition on a
// column that was not sent is simply NULL. The condition speaks of
//
//	op      text, NULL when it is not known
//	n, o    jsonb, the row and the row before; columns that were not sent are left to
//	un, uo  jsonb, lists of them
func sqlTwin(t testing.TB, filter string) string {
	w := twinWriter{t: t}
	was := twinSpot{value: "o", row: "uo"}
	return w.value(slowDecode(t, []byte(filter)), twinSpot{value: "n", row: "un", was: &was})
}

type twinWriter struct {
	t        testing.TB
	elements int // aliases given so far
}

// twinSpot is a place in a row: an expression that is NULL where nothing is.
type twinSpot struct {
	value  string
	row    string // of the row itself: the list of its columns that were not sent
	unsent string // a condition, "" where everything was sent
	column bool   // a column, not something in it
	path   []string
	was    *twinSpot // the same place in the row before, where that may be asked for
}

func (s twinSpot) child(key string) twinSpot {
	c := twinSpot{value: fmt.Sprintf("(%s->%s)", s.value, sqlText(key)), unsent: s.unsent, column: s.row != "", path: append(slices.Clip(s.path), key)}
	if c.column {
		c.unsent = fmt.Sprintf("%s ? %s", s.row, sqlText(key))
		if s.row == "uo" {
			c.unsent = fmt.Sprintf("(%s or op is null)", c.unsent)
		}
	}
	if s.was != nil {
		was := s.was.child(key)
		c.was = &was
	}
	return c
}

// is is a condition on the value: false where nothing is, NULL where it was not sent.
func (s twinSpot) is(format string, args ...any) string {
	format = strings.ReplaceAll(format, "VALUE", strings.ReplaceAll(s.value, "%", "%%"))
	condition := "coalesce(" + fmt.Sprintf(format, args...) + ",false)"
	return unlessUnsent(condition, s.unsent)
}

// unlessUnsent is the condition, or NULL where one of the others holds.
func unlessUnsent(condition string, unsent ...string) string {
	unsent = slices.DeleteFunc(unsent, func(u string) bool { return u == "" })
	if len(unsent) == 0 {
		return condition
	}
	return fmt.Sprintf("case when %s then null else %s end", strings.Join(unsent, " or "), condition)
}

func (w *twinWriter) value(f any, at twinSpot) string {
	switch f := f.(type) {
	case map[string]any:
		return w.object(f, at)
	case []any:
		return w.array(f, at)
	default:
		return at.is("VALUE = %s", w.jsonb(f))
	}
}

func (w *twinWriter) object(f map[string]any, at twinSpot) string {
	if !hasOperators(f) && at.row == "" {
		return at.is("VALUE @> %s", w.jsonb(f))
	}
	var all []string
	if slowAsksForObject(f) {
		all = append(all, at.is("jsonb_typeof(VALUE) = 'object'"))
	}
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if name, operator := slowKey(key); operator {
			all = append(all, w.operator(name, f[key], f, at))
		} else {
			all = append(all, w.value(f[key], at.child(name)))
		}
	}
	return "(" + strings.Join(all, " and ") + ")"
}

// array joins the elements that are plain values into one containment.
func (w *twinWriter) array(f []any, at twinSpot) string {
	var plain []any
	all := []string{fmt.Sprintf("jsonb_typeof(%s) = 'array'", at.value)}
	for _, element := range f {
		if !hasOperators(element) {
			plain = append(plain, element)
			continue
		}
		w.elements++
		name := fmt.Sprintf("e%d", w.elements)
		all = append(all, fmt.Sprintf("exists (select from jsonb_array_elements(case when jsonb_typeof(%[1]s) = 'array' then %[1]s end) %[2]s(v) where %[3]s)",
			at.value, name, w.value(element, twinSpot{value: name + ".v"})))
	}
	if len(plain) > 0 {
		all = append(all, at.value+" @> "+w.jsonb(plain))
	}
	return unlessUnsent("coalesce("+strings.Join(all, " and ")+",false)", at.unsent)
}

func hasOperators(f any) bool {
	switch f := f.(type) {
	case map[string]any:
		for key, value := range f {
			if _, operator := slowKey(key); operator || hasOperators(value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(f, hasOperators)
	}
	return false
}

func (w *twinWriter) operator(name string, operand any, beside map[string]any, at twinSpot) string {
	switch name {
	case "$and", "$or":
		var parts []string
		for _, part := range operand.([]any) {
			parts = append(parts, w.value(part, at))
		}
		return "(" + strings.Join(parts, " "+name[1:]+" ") + ")"
	case "$not":
		return "(not " + w.value(operand, at) + ")"
	case "$op":
		list, ok := operand.([]any)
		if !ok {
			list = []any{operand}
		}
		return "(op in (" + sqlList(list, func(v any) string { return sqlText(v.(string)) }) + "))"
	case "$before":
		return fmt.Sprintf("case when op is null then (null and %[1]s) when op in ('update','delete') then %[1]s else false end", w.value(operand, *at.was))
	case "$changed":
		return w.changed(operand)
	case "$from", "$to":
		return w.moved(beside, at)
	case "$exists":
		there := at.is("VALUE is not null")
		if at.column {
			there = fmt.Sprintf("(%s or %s is not null)", at.unsent, at.value)
		}
		if at.column && at.was == nil { // the row before: all of it may be unknown
			there = fmt.Sprintf("case when op is not null then %s end", there)
		}
		if operand == true {
			return there
		}
		return "(not " + there + ")"
	case "$eq":
		return at.is("VALUE = %s", w.jsonb(operand))
	case "$ne":
		return at.is("VALUE <> %s", w.jsonb(operand))
	case "$in":
		return at.is("VALUE in (%s)", sqlList(operand.([]any), w.jsonb))
	case "$nin":
		return at.is("(jsonb_typeof(VALUE) not in ('array','object') and VALUE not in (%s))", sqlList(operand.([]any), w.jsonb))
	}
	return w.leaf(name, operand, at)
}

// leaf writes the operators that ask for a number or a string.
func (w *twinWriter) leaf(name string, operand any, at twinSpot) string {
	comparison := map[string]string{"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}[name]
	if number, ok := operand.(json.Number); ok {
		return at.is("case when jsonb_typeof(VALUE) = 'number' then VALUE::numeric %s %s::numeric end", comparison, sqlText(string(number)))
	}
	const text = "case when jsonb_typeof(VALUE) = 'string' then "
	s := sqlText(operand.(string))
	switch name {
	case "$prefix":
		return at.is(text+"starts_with(VALUE #>> '{}', %s) end", s)
	case "$suffix":
		return at.is(text+`right(VALUE #>> '{}', char_length(%s)) = %s collate "C" end`, s, s)
	case "$contains":
		return at.is(text+`position(%s in VALUE #>> '{}') > 0 end`, s)
	default:
		return at.is(text+`(VALUE #>> '{}') collate "C" %s %s end`, comparison, s)
	}
}

// noChange is false where nothing can have changed.
const noChange = "case when op in ('delete','truncate') then false else %s end"

// differs is the condition that a value is not what it was: whether a column was sent
// decides before its value does.
func differs(column []string, now, was string, whole bool) string {
	atInsert := "null"
	if whole {
		atInsert = "true"
	}
	return fmt.Sprintf("case when op is null or uo ? %[1]s then null when un ? %[1]s then case op when 'update' then false else %[2]s end else %[3]s is distinct from %[4]s end",
		sqlText(column[0]), atInsert, now, was)
}

func (w *twinWriter) changed(operand any) string {
	var parts []string
	if list, ok := operand.([]any); ok {
		for _, path := range list {
			segments := slowPath(path.(string))
			parts = append(parts, differs(segments, "walk(n,"+sqlPath(segments)+")", "walk(o,"+sqlPath(segments)+")", len(segments) == 1))
		}
		return fmt.Sprintf(noChange, "("+strings.Join(parts, " or ")+")")
	}
	now, was := "n - columns(un||uo)", "o - columns(un||uo)"
	covered := []string{}
	for _, path := range operand.(map[string]any)["outside"].([]any) {
		segments := slowPath(path.(string))
		now, was = fmt.Sprintf("without(%s,%s)", now, sqlPath(segments)), fmt.Sprintf("without(%s,%s)", was, sqlPath(segments))
		if len(segments) == 1 {
			covered = append(covered, segments[0])
		}
	}
	return fmt.Sprintf(noChange, fmt.Sprintf(`case when op is null then null when (%[1]s) is distinct from (%[2]s) then true
		when op in ('insert','read') and not columns(un) <@ %[3]s then true
		when not columns(uo) <@ %[3]s then null else false end`, now, was, sqlPath(covered)))
}

func (w *twinWriter) moved(beside map[string]any, at twinSpot) string {
	parts := []string{differs(at.path, at.value, at.was.value, len(at.path) == 1)}
	if from, ok := beside["$from"]; ok {
		parts = append(parts, w.value(from, *at.was))
	}
	if to, ok := beside["$to"]; ok {
		parts = append(parts, w.value(to, at))
	}
	return fmt.Sprintf(noChange, "("+strings.Join(parts, " and ")+")")
}

// jsonb writes a literal of a filter, whose keys may have doubled dollars.
func (w *twinWriter) jsonb(v any) string {
	text, err := json.Marshal(slowLiteral(v))
	require.NoError(w.t, err)
	return sqlText(string(text)) + "::jsonb"
}

func sqlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func sqlList(list []any, write func(any) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = write(v)
	}
	return strings.Join(texts, ",")
}

func sqlPath(segments []string) string {
	texts := make([]string, len(segments))
	for i, s := range segments {
		texts[i] = sqlText(s)
	}
	return "array[" + strings.Join(texts, ",") + "]::text[]"
}

// judge are the helpers that conditions use, and the function that asks them: each
// condition about its share of the events. It makes the rows that there are from the op:
// before an insert there is none, a delete tells the one before, a truncate none at all.
const judge = `
create function columns(list jsonb) returns text[] immutable language sql as
	'select coalesce(array_agg(c), ''{}'') from jsonb_array_elements_text(list) c';

create function walk(v jsonb, path text[]) returns jsonb immutable language plpgsql as $$
declare segment text;
begin
	foreach segment in array path loop
		v := case jsonb_typeof(v)
			when 'object' then v->segment
			when 'array' then case when segment ~ '^(0|[1-9][0-9]{0,8})$' then v->segment::int end
		end;
	end loop;
	return v;
end $$;

create function without(v jsonb, path text[]) returns jsonb immutable language plpgsql as $$
begin
	if jsonb_typeof(v) <> 'object' or not v ? path[1] then return v; end if;
	if cardinality(path) = 1 then return v - path[1]; end if;
	return v || jsonb_build_object(path[1], without(v->path[1], path[2:]));
end $$;

create function judge(conditions text[], share int, op text[], n jsonb[], o jsonb[], un jsonb[], uo jsonb[]) returns text[] language plpgsql as $$
declare answers text[]; part text[]; low int; high int;
begin
	for i in 1 .. cardinality(conditions) loop
		low := (i-1)*share + 1; high := i*share;
		execute 'select array_agg(coalesce((' || conditions[i] || ')::text, ''unknown'') order by i) from (
			select i, nullif(op, '''') as op,
				case op when ''truncate'' then ''{}'' else n end as n,
				case op when ''truncate'' then ''[]'' else un end as un,
				case op when ''update'' then o when ''delete'' then n else ''{}'' end as o,
				case op when ''update'' then uo when ''delete'' then un else ''[]'' end as uo
			from unnest($1, $2, $3, $4, $5) with ordinality e(op, n, o, un, uo, i)) e'
		into part using op[low:high], n[low:high], o[low:high], un[low:high], uo[low:high];
		answers := answers || part;
	end loop;
	return answers;
end $$`

// trial is an event as the oracles take it: texts, and names of columns.
type trial struct {
	op                string // "" when it is not known
	data, before      string
	unsent, unsentOld []string
}

// twinAnswers are what a server says, in the order of the trials.
type twinAnswers struct {
	verdicts []filters.Verdict
	err      error
}

// askTwins asks the server what each condition says of its share of the trials: the first
// of the first trials, and so on. The answers come when the server has them.
func askTwins(t *testing.T, db *pgtest.DB, conditions []string, trials []trial) <-chan twinAnswers {
	t.Helper()
	share := len(trials) / len(conditions)
	require.Len(t, trials, share*len(conditions))
	columns := make([][]string, 5)
	for _, e := range trials {
		for i, text := range []string{e.op, e.data, e.before, jsonList(t, e.unsent), jsonList(t, e.unsentOld)} {
			columns[i] = append(columns[i], text)
		}
	}
	answers := make(chan twinAnswers, 1)
	ctx := t.Context()
	go func() {
		rows, err := db.Pool.Query(ctx, `select unnest(judge($1, $2, $3, $4::text[]::jsonb[], $5::text[]::jsonb[], $6::text[]::jsonb[], $7::text[]::jsonb[]))`,
			conditions, share, columns[0], columns[1], columns[2], columns[3], columns[4])
		if err != nil {
			answers <- twinAnswers{err: err}
			return
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		verdicts := make([]filters.Verdict, len(texts))
		for i, text := range texts {
			verdicts[i] = map[string]filters.Verdict{"true": yes, "false": no, "unknown": unknown}[text]
		}
		answers <- twinAnswers{verdicts, err}
	}()
	return answers
}

func jsonList(t testing.TB, list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	text, err := json.Marshal(list)
	require.NoError(t, err)
	return string(text)
}
