package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// sourceOfFilters is the package's source without its tests.
func sourceOfFilters(t *testing.T) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("../filters/*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
	}
	require.NotEmpty(t, files)
	return files
}

// constants calls fn for every constant of the package: its name, its type if it is
// written, and its value.
func constants(t *testing.T, fn func(name, typ string, value constant.Value)) {
	t.Helper()
	for _, file := range sourceOfFilters(t) {
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				s := spec.(*ast.ValueSpec)
				for i, value := range s.Values {
					v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, types.ExprString(value))
					if err != nil {
						continue // it stands on others, as iota does
					}
					typ := ""
					if s.Type != nil {
						typ = types.ExprString(s.Type)
					}
					fn(s.Names[i].Name, typ, v.Value)
				}
			}
		}
	}
}

// stringConstants returns the values of the constants of a type.
func stringConstants(t *testing.T, typ string) []string {
	t.Helper()
	var list []string
	constants(t, func(_, of string, value constant.Value) {
		if of == typ {
			list = append(list, constant.StringVal(value))
		}
	})
	require.NotEmpty(t, list)
	return list
}

// operators returns every spelling of an operator that the package knows: of the
// words with a dollar sign in its source, those that Compile takes for one.
func operators(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, file := range sourceOfFilters(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				s, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				if operatorKey.MatchString(strconv.Quote(s)) && isOperator(s) {
					list = append(list, s)
				}
			}
			return true
		})
	}
	return unique(list)
}

func isOperator(key string) bool {
	_, err := filters.Compile([]byte(`{"a":{` + strconv.Quote(key) + `:1}}`))
	var errs filters.Errors
	return !errors.As(err, &errs) || errs[0].Code != filters.UnknownOperator
}

// tableUnder returns the cells of the first table of the section.
func tableUnder(t *testing.T, name, heading string) (rows [][]string) {
	t.Helper()
	_, section, found := strings.Cut(page(t, name), "\n## "+heading+"\n")
	require.True(t, found, heading)
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, cells(line))
		} else if len(rows) > 0 {
			break
		}
	}
	require.Greater(t, len(rows), 2, heading)
	return rows[2:]
}

func TestEveryOperatorIsDocumentedAndNoOther(t *testing.T) {
	documented := []string{"$and", "$or", "$not"} // they have a section of their own
	for _, row := range tableUnder(t, filtersPage, "Operators") {
		documented = append(documented, code(row[0]))
		if alias := code(row[1]); alias != "" {
			documented = append(documented, alias)
			requireAlias(t, code(row[0]), alias)
		}
	}
	for _, row := range tableUnder(t, filtersPage, "What changed") {
		documented = append(documented, code(row[0]))
	}
	require.ElementsMatch(t, operators(t), unique(documented))
}

// requireAlias checks that alias means name, on the page's own examples.
func requireAlias(t *testing.T, name, alias string) {
	t.Helper()
	tried := 0
	for _, text := range readExamples(t, filtersPage).filters {
		other := strings.ReplaceAll(text, strconv.Quote(name), strconv.Quote(alias))
		if other == text {
			continue
		}
		tried++
		want, err := filters.Compile([]byte(text))
		require.NoError(t, err, text)
		got, err := filters.Compile([]byte(other))
		require.NoError(t, err, other)
		require.Equal(t, want.String(), got.String())
	}
	require.NotZero(t, tried, name)
}

func TestEveryOperationIsDocumented(t *testing.T) {
	var documented []string
	for _, row := range tableUnder(t, filtersPage, "What changed") {
		if code(row[0]) == "$op" {
			for _, found := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(row[1], -1) {
				documented = append(documented, found[1])
				_, known := filters.ParseOp(found[1])
				require.True(t, known, found[1])
			}
		}
	}
	for op := filters.OpUnknown + 1; op.String() != filters.OpUnknown.String(); op++ {
		require.Contains(t, documented, op.String())
	}
}

// bounds makes, for each limit, a filter that has just n of what it limits.
func bounds() map[string]func(n int) string {
	list := func(n int, item string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(item, i)
		}
		return strings.Join(items, ",")
	}
	return map[string]func(n int) string{
		"MaxText":         func(n int) string { return "{" + strings.Repeat(" ", n-2) + "}" },
		"MaxDepth":        func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" },
		"MaxLeaves":       func(n int) string { return `{"a":[` + list(n, "%d") + "]}" },
		"MaxKey":          func(n int) string { return `{"` + strings.Repeat("k", n) + `":1}` },
		"MaxList":         func(n int) string { return `{"a":{"$in":[` + list(n, "%d") + "]}}" },
		"MaxAlternatives": func(n int) string { return `{"$or":[` + list(n, `{"a":%d}`) + "]}" },
		"MaxSegments":     func(n int) string { return `{"$changed":["` + strings.Repeat("/k", n) + `"]}` },
	}
}

func TestDocumentedLimitsAreTheRealOnes(t *testing.T) {
	documented := map[string]int{}
	for _, row := range tableUnder(t, filtersPage, "Limits") {
		n, err := strconv.Atoi(row[1])
		require.NoError(t, err, row)
		documented[code(row[2])] = n
	}
	known := map[string]int{}
	constants(t, func(name, _ string, value constant.Value) {
		if n, exact := constant.Int64Val(constant.ToInt(value)); exact && strings.HasPrefix(name, "Max") {
			known[name] = int(n)
		}
	})
	require.Equal(t, known, documented)
	for name, n := range documented {
		if name == "MaxDocDepth" {
			all, err := filters.Compile([]byte(`{}`))
			require.NoError(t, err)
			doc := func(n int) []byte {
				return []byte(strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1))
			}
			require.Equal(t, filters.Yes, all.Match(doc(n)))
			require.Equal(t, filters.No, all.Match(doc(n+1)))
			continue
		}
		require.Contains(t, bounds(), name, "say here what reaches the limit")
		_, err := filters.Compile([]byte(bounds()[name](n)))
		require.NoError(t, err, name)
		_, err = filters.Compile([]byte(bounds()[name](n + 1)))
		var errs filters.Errors
		require.ErrorAs(t, err, &errs, name)
		require.Equal(t, filters.TooLarge, errs[0].Code, name)
	}
}
