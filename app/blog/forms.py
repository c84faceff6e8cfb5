"""Forms of the blog application."""

from django import forms

from blog.models import Comment


class SearchForm(forms.Form):
    """What a reader looks for."""

    q = forms.CharField(label="Search", max_length=200, required=False)


class CommentForm(forms.ModelForm):
    """What a logged-in user writes below a post."""

    class Meta:
        model = Comment
        fields = ["body"]
        labels = {"body": "Your comment"}
        widgets = {"body": forms.Textarea(attrs={"rows": 4, "maxlength": 5000})}
