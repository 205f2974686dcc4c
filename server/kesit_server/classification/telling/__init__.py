"""A model and its evaluation for people and programs: `model.json`, text, pictures, ONNX."""
