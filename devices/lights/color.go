package lights

import "math"

// HSToRGB is the colour of a hue (0..360) and saturation (0..100) at full
// brightness.
func HSToRGB(h, s float64) (r, g, b int) {
	s /= 100
	h = math.Mod(h, 360) / 60
	c, m := s, 1-s
	x := c * (1 - math.Abs(math.Mod(h, 2)-1))
	var fr, fg, fb float64
	switch {
	case h < 1:
		fr, fg = c, x
	case h < 2:
		fr, fg = x, c
	case h < 3:
		fg, fb = c, x
	case h < 4:
		fg, fb = x, c
	case h < 5:
		fr, fb = x, c
	default:
		fr, fb = c, x
	}
	return to8(fr + m), to8(fg + m), to8(fb + m)
}

// RGBToHS is the hue (0..360) and saturation (0..100) of a colour; its
// brightness is left out.
func RGBToHS(r, g, b int) (h, s float64) {
	hi, lo := float64(max(r, g, b)), float64(min(r, g, b))
	if hi == lo {
		return 0, 0
	}
	d := hi - lo
	switch hi {
	case float64(r):
		h = math.Mod(float64(g-b)/d+6, 6)
	case float64(g):
		h = float64(b-r)/d + 2
	default:
		h = float64(r-g)/d + 4
	}
	return h * 60, d / hi * 100
}

// RGBToXY is the chromaticity of an sRGB colour in CIE 1931; its brightness is
// left out. Black has that of white.
func RGBToXY(r, g, b int) (x, y float64) {
	if r+g+b == 0 {
		r, g, b = 255, 255, 255
	}
	lr, lg, lb := linear(r), linear(g), linear(b)
	// IEC 61966-2-1, D65.
	cx := 0.4124*lr + 0.3576*lg + 0.1805*lb
	cy := 0.2126*lr + 0.7152*lg + 0.0722*lb
	cz := 0.0193*lr + 0.1192*lg + 0.9505*lb
	sum := cx + cy + cz
	return cx / sum, cy / sum
}

// XYToRGB is the sRGB colour of a chromaticity, as bright as it can be. What
// lies outside sRGB is moved to its edge.
func XYToRGB(x, y float64) (r, g, b int) {
	y = max(y, 1e-6)
	cx, cy, cz := x/y, 1.0, (1-x-y)/y
	lr := 3.2406*cx - 1.5372*cy - 0.4986*cz
	lg := -0.9689*cx + 1.8758*cy + 0.0415*cz
	lb := 0.0557*cx - 0.2040*cy + 1.0570*cz
	lr, lg, lb = max(0, lr), max(0, lg), max(0, lb)
	top := max(lr, lg, lb, 1e-9)
	return to8(gamma(lr / top)), to8(gamma(lg / top)), to8(gamma(lb / top))
}

func linear(v int) float64 {
	f := float64(v) / 255
	if f <= 0.04045 {
		return f / 12.92
	}
	return math.Pow((f+0.055)/1.055, 2.4)
}

func gamma(f float64) float64 {
	if f <= 0.0031308 {
		return f * 12.92
	}
	return 1.055*math.Pow(f, 1/2.4) - 0.055
}

func to8(f float64) int { return int(math.Round(min(max(f, 0), 1) * 255)) }
