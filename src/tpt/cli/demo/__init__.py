"""A page to look at: one picture, its views, the answers before and after adaptation; `tpt-demo` serves it."""
