"""What a model computes, free of any backend: the op vocabulary, shape rules, arena planner."""
