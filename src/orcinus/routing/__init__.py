"""Which of several engines serves a request, judged by what their server can know."""
