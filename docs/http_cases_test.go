package docs_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const casesPage = "reference/http-cases.md"

func TestEveryHTTPCaseIsThereAndNamesTestsThatExist(t *testing.T) {
	tests, seen := map[string]map[string]bool{}, map[int]bool{}
	for line := range strings.Lines(page(t, casesPage)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		number, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		require.False(t, seen[number], "case %d stands there twice", number)
		seen[number] = true
		named := regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllStringSubmatch(cells[4], -1)
		require.NotEmpty(t, named, "case %d is not shown by a test", number)
		for _, m := range named {
			if tests[m[1]] == nil {
				tests[m[1]] = testsOf(t, m[1])
			}
			require.True(t, tests[m[1]][m[2]], "%s has no %s", m[1], m[2])
		}
	}
	for number := 1; number <= 27; number++ {
		require.True(t, seen[number], "case %d is missing", number)
	}
	require.Len(t, seen, 27)
}
