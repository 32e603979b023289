package docs_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// claim is one example of a page: what a filter answers to an event.
type claim struct {
	page, filter string
	event        string // a row, a body, or the short form of one
	row          bool
	want         string
}

func (c claim) String() string { return fmt.Sprintf("%s: %s of %s", c.page, c.filter, c.event) }

// remark is a filter that a page says to be refused, or to raise a warning.
type remark struct {
	page, filter, code, pointer string
	warning, old                bool
}

// examples reads the claims of a page. They are fenced blocks, "json filter" and
// "json event yes", and tables whose header says what their cells are: filter, row,
// event, answer, code, warning, where. A header cell with a row in it stands for a
// column of answers about that row.
type examples struct {
	page    string
	filters []string // that are good
	claims  []claim
	remarks []remark
	last    string // the last filter in a block
}

func readExamples(t *testing.T, name string) *examples {
	t.Helper()
	x := &examples{page: name}
	lines := strings.Split(page(t, name), "\n")
	for i := 0; i < len(lines); i++ {
		switch {
		case strings.HasPrefix(lines[i], "```"):
			end := i + 1 + slices.Index(lines[i+1:], "```")
			require.Greater(t, end, i, "a block does not end: %s", lines[i])
			x.block(t, strings.Fields(lines[i][3:]), strings.Join(lines[i+1:end], "\n"))
			i = end
		case strings.HasPrefix(lines[i], "| "):
			end := i
			for end < len(lines) && strings.HasPrefix(lines[end], "|") {
				end++
			}
			x.table(t, lines[i:end])
			i = end
		}
	}
	return x
}

func (x *examples) block(t *testing.T, info []string, text string) {
	t.Helper()
	if len(info) < 2 || info[0] != "json" {
		return
	}
	switch info[1] {
	case "filter":
		require.Len(t, info, 2, text)
		x.last = text
		x.filters = append(x.filters, text)
	case "event":
		require.Len(t, info, 3, text)
		x.claims = append(x.claims, claim{page: x.page, filter: x.last, event: text, want: info[2]})
	default:
		require.Fail(t, "a block that no test reads", "%s: %v", x.page, info)
	}
}

func (x *examples) table(t *testing.T, lines []string) {
	t.Helper()
	header := cells(lines[0])
	at := func(name string) int { return slices.Index(header, name) }
	if at("answer") < 0 && at("where") < 0 && at("filter") != 0 {
		return // no examples
	}
	for _, line := range lines[2:] {
		row := cells(line)
		require.Len(t, row, len(header), "%s: %s", x.page, line)
		filter := x.last
		if i := at("filter"); i >= 0 {
			filter = code(row[i])
		}
		if i := max(at("code"), at("warning")); i >= 0 {
			x.remarks = append(x.remarks, remark{
				page: x.page, filter: filter, code: code(row[i]), pointer: code(row[at("where")]),
				warning: at("warning") >= 0, old: strings.Contains(row[i], "match_old"),
			})
			continue
		}
		x.filters = append(x.filters, filter)
		for i, name := range header {
			switch {
			case name == "row" || name == "event":
				x.claims = append(x.claims, claim{page: x.page, filter: filter, event: code(row[i]), row: name == "row", want: row[at("answer")]})
			case strings.HasPrefix(name, "`{"):
				x.claims = append(x.claims, claim{page: x.page, filter: filter, event: code(name), row: true, want: row[i]})
			}
		}
	}
}

// cells splits a line of a table; no example has a bar in it.
func cells(line string) []string {
	list := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// code returns the first code span of a cell, or "".
func code(cell string) string {
	_, rest, _ := strings.Cut(cell, "`")
	text, _, _ := strings.Cut(rest, "`")
	return text
}

func allExamples(t *testing.T) (list []*examples) {
	t.Helper()
	for _, name := range []string{filtersPage, filtersRecipe, "../README.md"} {
		list = append(list, readExamples(t, name))
	}
	return list
}

// body makes a whole body of an example's event.
func (c claim) body(t *testing.T) []byte {
	t.Helper()
	short := map[string]json.RawMessage{"op": json.RawMessage(`"insert"`), "data": json.RawMessage(c.event)}
	if !c.row {
		clear(short)
		require.NoError(t, json.Unmarshal([]byte(c.event), &short), c.String())
		if short["source"] != nil {
			return []byte(c.event)
		}
	}
	b := fmt.Appendf(nil, `{"id":"evt_n2zlybiob4u3xsnmpwdrhep5iu","type":"order.changed","timestamp":"2026-11-23T13:58:42.463705Z",`+
		`"source":{"table":"public.orders","op":%s,"lsn":"0/1A9CC60","key":{"id":1}}`, short["op"])
	require.NotNil(t, short["op"], c.String())
	for _, member := range []string{"data", "previous", "unavailable", "previous_unavailable"} {
		if short[member] != nil {
			b = fmt.Appendf(b, `,%q:%s`, member, short[member])
		}
		delete(short, member)
	}
	delete(short, "op")
	require.Empty(t, short, "%s: not a member of the short form", c)
	return append(b, '}')
}
