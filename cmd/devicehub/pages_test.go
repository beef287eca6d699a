package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// filesOf are the files of the checkout with one of the extensions, without what is
// installed or built.
func filesOf(t *testing.T, extensions ...string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(checkout, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"node_modules", ".git", "bin", "dist", "testdata"}, d.Name())):
			return filepath.SkipDir
		case !d.IsDir() && slices.Contains(extensions, filepath.Ext(path)):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var (
	fenced    = regexp.MustCompile("(?s)\n *```.*?\n *```")
	heading   = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
	pageLink  = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	typedInto = regexp.MustCompile("(?m)(?:^|`)devicehub ([a-z][^`#>\n|…]*)")
)

// anchor is the name of a heading in links, as GitHub makes it.
func anchor(heading string) string {
	var s strings.Builder
	for _, c := range strings.ToLower(heading) {
		switch {
		case c == ' ':
			s.WriteByte('-')
		case unicode.IsLetter(c) || unicode.IsDigit(c) || c == '-' || c == '_':
			s.WriteRune(c)
		}
	}
	return s.String()
}

// anchorsOf are the headings of a page.
func anchorsOf(t *testing.T, page string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString("\n"+string(b), ""), -1) {
		anchors[anchor(m[1])] = true
	}
	return anchors
}

// TestPagesLinkToWhatIsThere wants the file, and the heading in it, of every link of every
// page, and every command that is to be typed.
func TestPagesLinkToWhatIsThere(t *testing.T) {
	links, commands := 0, 0
	for _, page := range filesOf(t, ".md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(checkout, page)
		for _, m := range pageLink.FindAllStringSubmatch(fenced.ReplaceAllString("\n"+string(b), ""), -1) {
			to, at, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			links++
			file := filepath.Join(filepath.Dir(page), to)
			if to == "" {
				file = page
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			} else if at != "" && !anchorsOf(t, file)[at] {
				t.Errorf("%s links to %s, and there is no such heading", name, m[1])
			}
		}
		if name == "CHANGELOG.md" {
			continue
		}
		for _, m := range typedInto.FindAllStringSubmatch(string(b), -1) {
			words := strings.Fields(m[1])
			if len(words) == 0 || words[0] == "connects" || words[0] == "help" || words[0] == "data" || words[0] == "backup" && len(words) == 1 {
				continue
			}
			commands++
			checkCommand(t, name, words)
		}
	}
	if links < 60 || commands < 20 {
		t.Errorf("found %d links and %d commands, want more of both", links, commands)
	}
}

// checkCommand wants a command and its flags.
func checkCommand(t *testing.T, page string, words []string) {
	t.Helper()
	cmd, rest, err := (&app{}).root().Find(words)
	if err != nil || cmd.Name() == "devicehub" {
		t.Errorf("%s: devicehub %s: no such command", page, strings.Join(words, " "))
		return
	}
	for _, w := range rest {
		flag, ok := strings.CutPrefix(w, "--")
		flag, _, _ = strings.Cut(flag, "=")
		if ok && cmd.Flags().Lookup(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil {
			t.Errorf("%s: devicehub %s: no flag --%s", page, strings.Join(words, " "), flag)
		}
	}
}

var (
	section  = regexp.MustCompile(`§ ?[0-9A-Z]`)
	standard = regexp.MustCompile(`MQTT|RFC|NIST SP|semver|Directional Statistics|HTML|Unicode|SQLite|WebSocket`)
	ownPage  = regexp.MustCompile(`\b([a-z][a-zA-Z0-9/_.-]*\.md)(?:#([a-z0-9-]+))?`)
	foreign  = regexp.MustCompile(`\b[0-9]{1,2}-(?:product|domain|phoenix|conventions|dashboard|firmware-sim|performance|pains|readings-store|components|cluster|capabilities)\b|\(P[0-9]+\)`)
)

// TestCitationsResolve wants a page of the tree, or a standard, for everything that comments
// and pages cite. A section belongs to the standard that is named last before it.
func TestCitationsResolve(t *testing.T) {
	own := 0
	for _, file := range filesOf(t, ".go", ".ts", ".tsx", ".mjs", ".md", ".yaml", ".sql", ".css") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(checkout, file)
		named := -1 // the line that names a standard last
		for i, line := range strings.Split(string(b), "\n") {
			if m := foreign.FindString(line); m != "" && !strings.HasSuffix(name, "pages_test.go") {
				t.Errorf("%s:%d cites %q, which is not in the tree", name, i+1, m)
			}
			if standard.MatchString(line) {
				named = i
			}
			if strings.Contains(line, "§") && section.MatchString(line) && (named < 0 || i-named > 3 && !strings.HasSuffix(name, "_test.go")) {
				t.Errorf("%s:%d cites a section and does not say of what: %s", name, i+1, strings.TrimSpace(line))
			}
			if !strings.Contains(line, ".md") || strings.HasSuffix(name, ".md") || strings.HasSuffix(name, "_test.go") && !strings.Contains(line, "//") {
				continue // their links are followed by TestPagesLinkToWhatIsThere
			}
			for _, m := range ownPage.FindAllStringSubmatch(line, -1) {
				page := filepath.Join(checkout, m[1])
				if _, err := os.Stat(page); err != nil {
					if page = filepath.Join(filepath.Dir(file), m[1]); m[2] == "" {
						continue // a file of another project, or one that is made
					}
				}
				if _, err := os.Stat(page); err != nil || m[2] != "" && !anchorsOf(t, page)[m[2]] {
					t.Errorf("%s:%d cites %s, which is not in the tree", name, i+1, m[0])
					continue
				}
				own++
			}
		}
	}
	if own < 20 {
		t.Errorf("found %d citations of our own pages, want those that there are", own)
	}
}
