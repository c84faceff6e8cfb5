"""Forms of the blog application."""

from django import forms

from blog.models import Comment


class CommentForm(forms.ModelForm):
    """What a logged-in user writes below a post."""

    class Meta:
        model = Comment
        fields = ["body"]
        labels = {"body": "Your comment"}
        widgets = {"body": forms.Textarea(attrs={"rows": 4, "maxlength": 5000})}
