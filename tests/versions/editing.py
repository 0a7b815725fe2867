"""What tests of collections do again and again."""


def edit(docs, message=None, **documents):
    """Write documents, None removes one; with a message register them, and tell whether that made any."""
    for document_id, document in documents.items():
        if document is None:
            del docs.documents[document_id]
        else:
            docs.documents[document_id] = document
    return message is None or docs.register(message)
