"""What runs inside the processes of veRL, Ray and vLLM."""
