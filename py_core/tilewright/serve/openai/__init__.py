"""The OpenAI API over a loaded model: shapes, validation, answers; natively and in the page."""
