// Package dashboard serves the web application that people watch and control
// devices with. The application is written in TypeScript (src), built by Vite
// into dist/app and embedded into the binary; nothing of it is fetched from
// elsewhere. It talks to the hub through /api/v1 and /socket only, so this
// package knows nothing of devices.
//
// A binary compiled without the built application serves a page that says how
// to build it.
package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var dist embed.FS

//go:embed unbuilt.html
var unbuilt []byte

// ContentSecurityPolicy is what the application is written for: nothing inline,
// nothing evaluated, nothing from another host.
const ContentSecurityPolicy = "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// PermissionsPolicy turns off what the application never asks a browser for.
const PermissionsPolicy = "accelerometer=(), bluetooth=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), " +
	"hid=(), microphone=(), midi=(), payment=(), serial=(), usb=()"

// Handler serves the application and is safe for concurrent use.
type Handler struct {
	files map[string]*file // by URL path; "/index.html" answers every page of the application
	built bool
}

type file struct {
	body, gzipped []byte // gzipped is nil where it would not be smaller
	contentType   string
	etag          string
	gzippedTag    string // what is compressed is another representation (RFC 9110 §8.8.3.3)
	immutable     bool
}

// New returns the handler of the embedded application.
func New() *Handler {
	app, err := fs.Sub(dist, "dist/app")
	if err != nil {
		panic(err) // a constant, valid path
	}
	return newHandler(app)
}

// newHandler reads app once; an app without index.html counts as not built.
func newHandler(app fs.FS) *Handler {
	h := &Handler{files: make(map[string]*file)}
	_ = fs.WalkDir(app, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // no dist/app at all is an application not built
		}
		body, err := fs.ReadFile(app, name)
		if err != nil {
			return nil
		}
		h.files["/"+name] = newFile(name, body)
		return nil
	})
	if _, h.built = h.files["/index.html"]; !h.built {
		h.files = map[string]*file{"/index.html": newFile("index.html", unbuilt)}
	}
	return h
}

func newFile(name string, body []byte) *file {
	sum := sha256.Sum256(body)
	tag := base64.RawURLEncoding.EncodeToString(sum[:12])
	f := &file{
		body:        body,
		contentType: contentType(name),
		etag:        `"` + tag + `"`,
		gzippedTag:  `"` + tag + `-gzip"`,
		// Vite names what it puts there for its content.
		immutable: strings.HasPrefix(name, "assets/"),
	}
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	_, _ = zw.Write(body) // a bytes.Buffer does not fail
	_ = zw.Close()
	if buf.Len() < len(body)*9/10 {
		f.gzipped = buf.Bytes()
	}
	return f
}

// contentType does not ask the machine's own table for the types the
// application is made of: some systems call JavaScript text/plain.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".webmanifest":
		return "application/manifest+json"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

// Built reports whether the binary carries the application.
func (h *Handler) Built() bool { return h.built }

// ServeHTTP answers a file of the application with that file, and any other
// path of a page (/devices/kitchen-lamp) with the application, which reads the
// path itself. Paths below /api and /socket, and missing files, are 404.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", ContentSecurityPolicy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Permissions-Policy", PermissionsPolicy)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	p := path.Clean("/" + r.URL.Path)
	f, ok := h.files[p]
	if !ok && !isPage(p) {
		http.NotFound(w, r)
		return
	}
	if !ok {
		f = h.files["/index.html"]
	}
	f.serve(w, r)
}

func isPage(p string) bool {
	for _, prefix := range []string{"/api/", "/socket/", "/assets/"} {
		if strings.HasPrefix(p+"/", prefix) {
			return false
		}
	}
	return path.Ext(p) == ""
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	body, etag := f.body, f.etag
	if f.gzipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		body, etag = f.gzipped, f.gzippedTag
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Type", f.contentType)
	header.Set("ETag", etag)
	header.Set("Vary", "Accept-Encoding")
	if f.immutable {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		header.Set("Cache-Control", "no-cache")
	}
	if noneMatch(r.Header.Get("If-None-Match"), etag) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client has gone: nobody is left to tell
	}
}

// noneMatch compares as If-None-Match wants it, weakly (RFC 9110 §13.1.2).
func noneMatch(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == etag || part == "*" {
			return true
		}
	}
	return false
}

// acceptsGzip reads the codings of RFC 9110 §12.5.3; q=0 refuses.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if coding = strings.TrimSpace(coding); !strings.EqualFold(coding, "gzip") && coding != "*" {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !ok {
			return true
		}
		v, err := strconv.ParseFloat(q, 64)
		return err == nil && v > 0
	}
	return false
}
