"""The web page of `tpt-demo`: a picture, its views, and the answers before and after adaptation."""
