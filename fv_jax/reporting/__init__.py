"""Results of benches and evaluations, the paper's tables beside ours, a page with clips."""
