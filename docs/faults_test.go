package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const faultsPage = "reference/faults.md"

// testsOf lists the tests in the files of a package, whatever their build tags.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	require.NoError(t, err)
	found := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllStringSubmatch(string(content), -1) {
			found[m[1]] = true
		}
	}
	return found
}

func TestEveryFaultNamesTestsThatExist(t *testing.T) {
	text := page(t, faultsPage)
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllStringSubmatch(text, -1) {
		require.True(t, testsOf(t, m[1])[m[2]], "%s has no %s", m[1], m[2])
		named[m[1]+"."+m[2]] = true
	}
	for test := range testsOf(t, "e2e/faults") {
		require.True(t, named["e2e/faults."+test], "%s stands in no row", test)
	}
}

func TestEveryRowOfTheFaultMatrixIsThereAndShown(t *testing.T) {
	seen := map[int]bool{}
	for line := range strings.Lines(page(t, faultsPage)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		row, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		require.False(t, seen[row], "row %d stands there twice", row)
		seen[row] = true
		require.Contains(t, cells[4], ".Test", "row %d is not shown by a test", row)
	}
	for _, span := range [][2]int{{1, 4}, {11, 14}, {17, 26}, {28, 32}, {35, 48}} {
		for row := span[0]; row <= span[1]; row++ {
			require.True(t, seen[row], "row %d is missing", row)
		}
	}
}
