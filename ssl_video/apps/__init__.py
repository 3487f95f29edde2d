"""What a person does with a trained backbone."""
